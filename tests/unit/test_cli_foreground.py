"""`vsproxy --config lb.toml` as a process: what it says, and what each signal does."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.proxies import children_of, comm_of

PATIENCE = 20.0
TEXT = """\
[proxy]
workers = {workers}
[log]
access_path = "{directory}/access.log"
[admin]
bind = "127.0.0.1:0"
[[listeners]]
bind = "{bind}"
[[routes]]
pool = "app"
[pools.app]
servers = [{{ address = "127.0.0.1:1", state = "maint" }}]
"""


class Running:
    """A vsproxy in the foreground, read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def hears(self, pattern: str) -> re.Match[str]:
        """The first line from here on that matches; fails at the end of the output."""
        assert self.process.stderr is not None
        while True:
            raw = await asyncio.wait_for(self.process.stderr.readline(), PATIENCE)
            assert raw, f"no {pattern!r} in:\n" + "\n".join(self.said)
            self.said.append(raw.decode().rstrip())
            if found := re.search(pattern, self.said[-1]):
                return found

    async def ends(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@asynccontextmanager
async def running(file: Path) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vsproxy", "--config", str(file), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "lb.toml"
    file.write_text(TEXT.format(workers='"auto"', directory=tmp_path, bind="127.0.0.1:0"))
    return file


def write(file: Path, text: str) -> None:
    file.write_text(text)


def file_text(file: Path) -> str:
    return file.read_text()


def move(file: Path, to: Path) -> None:
    file.rename(to)


def exists(file: Path) -> bool:
    return file.exists()


async def fetched(port: int, path: str = "/") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_stops_when_told(file: Path, number: signal.Signals) -> None:
    async with running(file) as proxy:
        assert (await proxy.hears(r"vsproxy .* pid (\d+)"))[1] == str(proxy.process.pid)
        port = int((await proxy.hears(r"listening on http://127\.0\.0\.1:(\d+)$"))[1])
        admin = int((await proxy.hears(r"admin on http://127\.0\.0\.1:(\d+)$"))[1])
        await proxy.hears("ready$")
        assert (await fetched(port)).startswith(b"HTTP/1.1 503 ")
        assert (await fetched(admin, "/healthz")).startswith(b"HTTP/1.1 200 ")
        proxy.process.send_signal(number)
        assert await proxy.ends() == 0


async def test_a_second_signal_does_not_wait(file: Path) -> None:
    asked = asyncio.Event()

    def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        asked.set()

    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    write(file, file_text(file).replace('127.0.0.1:1", state = "maint"', f'{address}"'))
    async with running(file) as proxy:
        port = int((await proxy.hears(r"listening on http://127\.0\.0\.1:(\d+)$"))[1])
        await proxy.hears("ready$")
        request = asyncio.create_task(fetched(port))
        await asyncio.wait_for(asked.wait(), PATIENCE)
        proxy.process.send_signal(signal.SIGTERM)
        await proxy.hears("stopping")
        proxy.process.send_signal(signal.SIGTERM)
        assert await proxy.ends() == 128 + signal.SIGTERM
        await asyncio.gather(request, return_exceptions=True)
    for writer in held:
        writer.close()
    server.close()


async def test_a_file_is_read_again(file: Path) -> None:
    async with running(file) as proxy:
        port = int((await proxy.hears(r"listening on http://127\.0\.0\.1:(\d+)$"))[1])
        await proxy.hears("ready$")
        good = file_text(file)
        write(file, good.replace("[[routes]]", "[[routes]]\npath = 7"))
        proxy.process.send_signal(signal.SIGHUP)
        await proxy.hears(r"ERROR .*lb\.toml:\d+: routes\[0\]\.path: found 7")
        await proxy.hears("not reloaded")
        assert (await fetched(port)).startswith(b"HTTP/1.1 503 ")
        write(file, good.replace("[[routes]]", '[[routes]]\npath = "/only"'))
        proxy.process.send_signal(signal.SIGHUP)
        await proxy.hears("reloaded .*lb.toml")
        assert (await fetched(port)).startswith(b"HTTP/1.1 404 ")


async def test_the_access_log_is_opened_again(file: Path) -> None:
    log, moved = file.with_name("access.log"), file.with_name("access.log.1")
    async with running(file) as proxy:
        port = int((await proxy.hears(r"listening on http://127\.0\.0\.1:(\d+)$"))[1])
        await proxy.hears("ready$")
        move(log, moved)
        proxy.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(PATIENCE):
            while not exists(log):
                await fetched(port)
        proxy.process.send_signal(signal.SIGTERM)
        assert await proxy.ends() == 0


async def test_an_address_that_is_taken(file: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        write(file, TEXT.format(workers=1, directory=tmp_path, bind=bind))
        async with running(file) as proxy:
            await proxy.hears(f"cannot start: .*{re.escape(bind.split(':')[1])}.*in use")
            assert await proxy.ends() == 1


@pytest.mark.parametrize("count", [1, 4])
async def test_as_many_workers_as_are_asked_for(file: Path, tmp_path: Path, count: int) -> None:
    write(file, TEXT.format(workers=count, directory=tmp_path, bind="127.0.0.1:0"))
    async with running(file) as proxy:
        assert (await proxy.hears(r"pid \d+, (\d+) workers$"))[1] == str(count)
        await proxy.hears("ready$")
        names = sorted(comm_of(child) for child in children_of(proxy.process.pid))
        assert names == ["vsproxy-control", *(f"vsproxy-worker{number}" for number in range(count))]


async def test_descriptors_are_raised_to_the_hard_limit(file: Path) -> None:
    async with running(file) as proxy:
        await proxy.hears("ready$")
        for pid in (proxy.process.pid, *children_of(proxy.process.pid)):
            limits = file_text(Path(f"/proc/{pid}/limits"))
            [soft, hard] = re.search(r"Max open files +(\d+) +(\d+)", limits).groups()  # type: ignore[union-attr]
            assert soft == hard
