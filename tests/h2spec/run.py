"""Running cases, and all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from h2spec import cases_connection, cases_frames, cases_generic, cases_messages
from h2spec.dialog import Dialog, Missed, Skipped, Target, Wait, connect
from h2spec.steps import Case, Request
from support import h2_frames as h2

CASES: list[Case] = [*cases_generic.CASES, *cases_connection.CASES, *cases_frames.CASES, *cases_messages.CASES]


@dataclass(frozen=True)
class Outcome:
    """What became of a case. `missed` and `skipped` say why it did not pass."""

    case: Case
    missed: str = ""
    skipped: str = ""


async def play(case: Case, target: Target) -> None:
    """One case on a connection of its own. Raises Missed or Skipped."""
    if case.needs_body and await body_size(target) < case.needs_body:
        raise Skipped("the server's body is too short")
    dialog = await connect(target)
    try:
        if case.handshake:
            await dialog.handshake()
        for step in case.steps:
            if isinstance(step, Wait):
                await dialog.wait(step)
            else:
                await dialog.send(step if isinstance(step, bytes) else step(dialog))
    finally:
        dialog.writer.transport.abort()


async def body_size(target: Target) -> int:
    """Bytes of the body that the server has for a GET."""
    dialog = await connect(target)
    try:
        await dialog.handshake()
        await dialog.send(Request()(dialog))
        return await count_data(dialog)
    finally:
        dialog.writer.transport.abort()


async def count_data(dialog: Dialog) -> int:
    """Bytes of DATA until the stream ends. Raises Missed."""
    size = 0
    while True:
        try:
            frame = await dialog.receive()
        except TimeoutError:
            frame = None
        if frame is None:
            raise Missed(f"no whole response; came: {', '.join(dialog.came)}")
        size += len(frame.payload) if frame.type == h2.DATA else 0
        if frame.ends_stream:
            return size


async def outcome(case: Case, target: Target) -> Outcome:
    """One case, whatever becomes of it."""
    try:
        await play(case, target)
    except Skipped as error:
        return Outcome(case, skipped=str(error))
    except (Missed, OSError) as error:
        return Outcome(case, missed=str(error) or repr(error))
    return Outcome(case)


async def run(target: Target, cases: list[Case], at_once: int = 1) -> list[Outcome]:
    """All cases, so many at once."""
    turn = asyncio.Semaphore(at_once)

    async def one(case: Case) -> Outcome:
        async with turn:
            return await outcome(case, target)

    return list(await asyncio.gather(*(one(case) for case in cases)))
