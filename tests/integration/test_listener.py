"""Listeners on real sockets, on uvloop and on asyncio's own loop: addresses, limits, stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import vsproxy
from support.answering import ANSWER, LOOPS, Answering, strict_runner
from support.queued import until_queued
from vsproxy.config.model import ListenerConfig
from vsproxy.config.units import parse_bind
from vsproxy.descriptors import Descriptors
from vsproxy.errors import VsproxyError
from vsproxy.listener import Listener

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLIENTS = 300


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Runs the coroutine of a test, on each loop in turn."""
    with strict_runner(request.param) as runner:
        yield runner


def make(bind: str, budget: Descriptors | None = None, **options: Any) -> Listener:
    """A listener on `bind`, bound but not started. Call it inside a loop."""
    config = ListenerConfig(bind=parse_bind(bind), **options)
    listener = Listener(config, asyncio.get_running_loop(), Answering, budget or Descriptors(1024))
    listener.bind()
    return listener


@contextlib.asynccontextmanager
async def listening(bind: str, budget: Descriptors | None = None, **options: Any) -> AsyncIterator[Listener]:
    listener = make(bind, budget, **options)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop_accepting()
        await listener.settle()


def connect(address: str) -> socket.socket:
    """A client that the kernel has connected, whether or not anybody accepts it."""
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(address[5:])
    else:
        host, _, port = address.rpartition(":")
        client = socket.create_connection((host.strip("[]") or "localhost", int(port)))
    client.setblocking(False)
    return client


async def ask(client: socket.socket) -> bytes:
    """One request on `client`; its response, or what there is of it when the connection ends."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, REQUEST)
    received = b""
    while len(received) < len(ANSWER) and (data := await loop.sock_recv(client, 65536)):
        received += data
    return received


async def answered(address: str) -> bool:
    with connect(address) as client:
        return await ask(client) == ANSWER


# Addresses


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0", ":0", "0.0.0.0:0", "[::]:0"])
def test_it_answers_where_it_says_it_listens(runner: asyncio.Runner, bind: str) -> None:
    async def scenario() -> None:
        async with listening(bind) as listener:
            host, _, port = listener.address.rpartition(":")
            assert host == bind.removesuffix(":0")
            assert int(port) > 0
            assert await answered(listener.address)

    runner.run(scenario())


@pytest.mark.parametrize(
    ("bind", "v4", "v6"),
    [(":0", True, True), ("0.0.0.0:0", True, False), ("[::]:0", False, True)],
)
def test_families_are_those_of_the_address(runner: asyncio.Runner, bind: str, v4: bool, v6: bool) -> None:
    async def scenario() -> None:
        async with listening(bind) as listener:
            port = listener.address.rpartition(":")[2]
            for host, wanted in (("127.0.0.1", v4), ("[::1]", v6)):
                if wanted:
                    assert await answered(f"{host}:{port}")
                    continue
                # Another process may have this number there: what counts is that we are not reached.
                with contextlib.suppress(ConnectionRefusedError):
                    connect(f"{host}:{port}").close()
            assert await answered(f"{'127.0.0.1' if v4 else '[::1]'}:{port}")
            assert listener.stats.accepted == v4 + v6 + 1

    runner.run(scenario())


def test_an_address_in_use_is_named_with_the_reason() -> None:
    async def scenario() -> None:
        async with listening("127.0.0.1:0") as listener:
            with pytest.raises(
                VsproxyError, match=f"cannot listen on {listener.address}: Address already in use"
            ):
                make(listener.address)

    asyncio.run(scenario())


def test_a_name_that_does_not_resolve_is_named() -> None:
    async def scenario() -> None:
        with pytest.raises(VsproxyError, match=r"cannot listen on no-such-host\.invalid:0: "):
            make("no-such-host.invalid:0")

    asyncio.run(scenario())


def test_a_port_can_be_taken_again_at_once(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        async with listening("127.0.0.1:0") as first:
            client = connect(first.address)
            await ask(client)
        # A connection of the first is still open, as it may be for long after a restart.
        async with listening(first.address) as second:
            assert await answered(second.address)
        client.close()

    runner.run(scenario())


def test_small_writes_are_not_held_back(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        made: list[Answering] = []

        def remember(stats: Any, descriptor: int, origin: bytes) -> Answering:
            made.append(Answering(stats))
            return made[-1]

        config = ListenerConfig(bind=parse_bind("127.0.0.1:0"))
        listener = Listener(config, asyncio.get_running_loop(), remember, Descriptors(1024))
        listener.bind()
        listener.start()
        with connect(listener.address) as client:
            await ask(client)
            assert made[0].transport is not None
            accepted = made[0].transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        listener.stop_accepting()

    runner.run(scenario())


# Unix sockets


def test_a_unix_socket_comes_and_goes_with_its_listener(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with listening(f"unix:{path}") as listener:
            assert listener.address == f"unix:{path}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert await answered(listener.address)
        assert not path.exists()

    runner.run(scenario())


def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
            dead.listen()
        async with listening(f"unix:{path}") as listener:
            assert await answered(listener.address)

    asyncio.run(scenario())


def test_the_socket_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with listening(f"unix:{tmp_path / 's'}") as listener:
            with pytest.raises(VsproxyError, match="another process listens there"):
                make(listener.address)
            assert await answered(listener.address)

    asyncio.run(scenario())


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        path.write_text("precious")
        with pytest.raises(VsproxyError, match="the file exists and is not a socket"):
            make(f"unix:{path}")
        assert path.read_text() == "precious"

    asyncio.run(scenario())


def test_the_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with listening(f"unix:{path}"):
            path.rename(tmp_path / "old")
            successor = make(f"unix:{path}")
        assert path.exists()
        successor.stop_accepting()

    asyncio.run(scenario())


# Limits


def test_beyond_max_connections_clients_wait(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        async with listening("127.0.0.1:0", max_connections=1) as listener:
            first, second = connect(listener.address), connect(listener.address)
            assert await ask(first) == ANSWER
            waiting = asyncio.create_task(ask(second))
            # Several turns of the loop, each with an answer: the second client had every chance.
            for _ in range(5):
                assert await ask(first) == ANSWER
            assert not waiting.done()
            assert (listener.stats.active, listener.stats.paused) == (1, True)
            first.close()
            assert await waiting == ANSWER
            assert listener.stats.accepted == 2
            second.close()

    runner.run(scenario())


def test_listeners_share_one_budget(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        budget = Descriptors(limit=2, reserve=0)
        async with listening("127.0.0.1:0", budget) as one, listening("127.0.0.1:0", budget) as other:
            first, second = connect(one.address), connect(other.address)
            assert await ask(first) == ANSWER
            waiting = asyncio.create_task(ask(second))
            for _ in range(5):
                assert await ask(first) == ANSWER
            assert not waiting.done()
            first.close()
            assert await waiting == ANSWER
            second.close()

    runner.run(scenario())


def test_a_budget_gives_room_only_below_its_mark() -> None:
    budget = Descriptors(limit=264, reserve=64)
    resumed: list[int] = []
    for _ in range(100):
        assert not budget.full
        budget.take()
    assert budget.full
    budget.wait_for_room(lambda: resumed.append(budget.taken))
    for _ in range(5):
        budget.give_back()
    assert resumed == []
    budget.give_back()
    assert resumed == [94]


def test_the_limit_is_raised_to_the_hard_one() -> None:
    program = """
import resource
from vsproxy.descriptors import current_limit, raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 100))
print(current_limit(), raise_limit(), current_limit(), raise_limit())
"""
    root = str(Path(vsproxy.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["50", "100", "100", "100"]


@contextlib.contextmanager
def few_descriptors(loop: str, descriptors: int, budget: int) -> Iterator[subprocess.Popen[str]]:
    paths = [str(Path(__file__).parents[1]), str(Path(vsproxy.__file__).parents[1])]
    process = subprocess.Popen(
        [sys.executable, "-m", "support.answering", loop, str(descriptors), str(budget)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def ask_and_leave(client: socket.socket) -> bytes:
    try:
        return await ask(client)
    finally:
        client.close()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("budget", [128, 4096], ids=["counted", "used up by others"])
def test_when_descriptors_run_out_clients_wait_and_none_gets_an_error(loop: str, budget: int) -> None:
    """128 descriptors, 300 clients at once; in the second case the budget believes in more than there are."""
    with few_descriptors(loop, 128, budget) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        clients = [connect(address) for _ in range(CLIENTS)]

        async def scenario() -> list[bytes]:
            return await asyncio.gather(*map(ask_and_leave, clients))

        answers = asyncio.run(scenario())
        output, errors = server.communicate("")
    assert answers == [ANSWER] * CLIENTS
    counted = json.loads(output)
    assert counted["accepted"] == CLIENTS
    assert counted["pauses"] > 0
    assert "Traceback" not in errors
    assert ("cannot accept: Too many open files" in errors) == (budget > 128)


# Stop


@pytest.mark.parametrize("bind", ["127.0.0.1:0", ":0", "unix:"])
def test_clients_in_the_queue_are_served_after_stop(
    runner: asyncio.Runner, bind: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        listener = make(f"unix:{tmp_path / 's'}" if bind == "unix:" else bind)
        clients = [connect(listener.address) for _ in range(20)]
        if bind != "unix:":
            until_queued(listener.address, 20)
        listener.stop_accepting()
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            connect(listener.address)
        await listener.settle()
        assert (listener.stats.active, listener.stats.pending) == (20, 0)
        assert await asyncio.gather(*map(ask_and_leave, clients)) == [ANSWER] * 20

    runner.run(scenario())


def test_stop_while_paused_serves_the_queue(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        async with listening("127.0.0.1:0", max_connections=1) as listener:
            first, second = connect(listener.address), connect(listener.address)
            until_queued(listener.address, 2)
            assert await ask(first) == ANSWER
            listener.stop_accepting()
            listener.stop_accepting()
            assert await ask_and_leave(second) == ANSWER
            assert await ask_and_leave(first) == ANSWER

    runner.run(scenario())


def test_stop_of_a_listener_that_was_never_bound() -> None:
    async def scenario() -> None:
        config = ListenerConfig(bind=parse_bind("127.0.0.1:0"))
        listener = Listener(config, asyncio.get_running_loop(), Answering, Descriptors(1024))
        with pytest.raises(VsproxyError, match="before it was bound"):
            listener.start()
        listener.stop_accepting()
        await listener.settle()

    asyncio.run(scenario())
