"""Large bodies: generated, checksummed at both ends, never on disk, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable

import pytest

from support.proxies import ProxyProcess
from support.stage import Stage

GIB = 1 << 30
SIZE = 2 * GIB
BLOCK = hashlib.sha256(b"vsproxy").digest() * 8192  # 256 KiB
MAX_GROWTH = 16 << 20


def digest_of(size: int) -> str:
    sha = hashlib.md5()
    for _ in range(size // len(BLOCK)):
        sha.update(BLOCK)
    return sha.hexdigest()


def send_blocks(sock: socket.socket, size: int) -> None:
    for _ in range(size // len(BLOCK)):
        sock.sendall(BLOCK)


def receive(sock: socket.socket, sha: object, size: int) -> None:
    while size:
        data = sock.recv(min(size, 1 << 18))
        if not data:
            raise AssertionError(f"ended {size} bytes early")
        sha.update(data)  # type: ignore[attr-defined]
        size -= len(data)


def read_head(sock: socket.socket) -> bytes:
    """A head; empty if the connection has ended instead."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        head += byte
    return head


class Origin(threading.Thread):
    """Serves /down with SIZE bytes and answers an upload with the digest of its body."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"

    def run(self) -> None:
        while True:
            sock, _ = self.listening.accept()
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock: socket.socket) -> None:
        # A client that goes in the middle is the subject of one test.
        with sock, contextlib.suppress(ConnectionError):
            while head := read_head(sock):
                size = int(head.lower().partition(b"x-size: ")[2].split(b"\r\n")[0])
                if head.startswith(b"GET"):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                    send_blocks(sock, size)
                else:
                    sha = hashlib.md5()
                    receive(sock, sha, size)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n" + sha.hexdigest().encode())


@pytest.fixture
async def proxy(stage: Stage) -> ProxyProcess:
    origin = Origin()
    origin.start()
    return await stage.process(origin.address)


def dial(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=60)


def download(address: str, size: int) -> str:
    with dial(address) as sock:
        sock.sendall(b"GET /down HTTP/1.1\r\nHost: a\r\nX-Size: %d\r\n\r\n" % size)
        assert b" 200 " in read_head(sock)
        sha = hashlib.md5()
        receive(sock, sha, size)
        return sha.hexdigest()


def upload(address: str, size: int) -> str:
    with dial(address) as sock:
        sock.sendall(b"PUT /up HTTP/1.1\r\nHost: a\r\nX-Size: %d\r\nContent-Length: %d\r\n\r\n" % (size, size))
        send_blocks(sock, size)
        assert b" 200 " in read_head(sock)
        return sock.recv(32, socket.MSG_WAITALL).decode()


@pytest.mark.parametrize("move", [download, upload])
async def test_two_gib_arrive_whole_in_bounded_memory(
    stage: Stage, proxy: ProxyProcess, move: Callable[[str, int], str]
) -> None:
    await asyncio.to_thread(move, stage.address, len(BLOCK))
    before = proxy.rss()
    got = await asyncio.to_thread(move, stage.address, SIZE)
    assert got == await asyncio.to_thread(digest_of, SIZE)
    growth = proxy.peak_rss() - before
    name = "download" if move is download else "upload"
    peak = proxy.peak_rss() >> 20
    print(f"{name} of {SIZE >> 20} MiB: peak {peak} MiB, growth {growth >> 10} KiB")
    assert growth < MAX_GROWTH


async def test_a_client_that_does_not_read_is_not_buffered_for(stage: Stage, proxy: ProxyProcess) -> None:
    await asyncio.to_thread(download, stage.address, len(BLOCK))
    before = proxy.rss()
    client = await stage.connect()
    await client.send(b"GET /down HTTP/1.1\r\nHost: a\r\nX-Size: %d\r\n\r\n" % GIB)
    await asyncio.sleep(1.0)
    assert proxy.peak_rss() - before < MAX_GROWTH
