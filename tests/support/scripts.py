"""What servers do wrong, by name."""

from __future__ import annotations

import asyncio

from support.http import Request
from support.server import Conversation, Script


def sends(data: bytes, then: str = "stay") -> Script:
    """Answer with exactly `data`, then `stay` open, `close` or `reset`."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(data)
        end(peer, then)

    return script


def end(peer: Conversation, how: str) -> None:
    """`close`, `reset` or `stay`."""
    if how == "close":
        peer.close()
    elif how == "reset":
        peer.reset()


async def mute(peer: Conversation, request: Request) -> None:
    """Read the request, never answer; leave when the proxy does."""
    await peer.wait_closed()


async def reset_at_once(peer: Conversation) -> None:
    """For `on_connect`: accept and reset."""
    peer.reset()


class Interrupted:
    """A script that sends `data` and ends as `how` says only when the test calls `cut`."""

    def __init__(self, data: bytes, how: str, then: bytes = b"") -> None:
        self.data = data
        self.how = how
        self.then = then
        self._now = asyncio.Event()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        await peer.send(self.data)
        await self._now.wait()
        if self.then:
            await peer.send(self.then)
        end(peer, self.how)

    def cut(self) -> None:
        """End the connection now: the test has seen what it waited for."""
        self._now.set()


class Held:
    """A script that answers 200 when the test calls `release`; `waiting` counts requests that are held."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0
        self._go = asyncio.Event()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self._go.wait()
        self.waiting -= 1
        await peer.respond(peer.server.name.encode())

    def release(self) -> None:
        """Answer everybody, now and from now on."""
        self._go.set()


class HeldBelow:
    """A script that holds requests for /held and all below it, see `Held`, and answers others at once."""

    def __init__(self) -> None:
        self.held = Held()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        if request.target.startswith("/held"):
            await self.held(peer, request)
        else:
            await peer.respond(peer.server.name.encode())
