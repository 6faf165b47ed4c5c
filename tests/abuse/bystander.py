"""A process of its own: a server, and two clients who use the proxy in front of it at a steady pace.

`python bystander.py` prints the server's address, reads the proxy's from standard input, and prints a line per
answer: when it was due (s, of the clock that all processes share), how long it took from then (s), and by which HTTP.
A request that is late because the one before it was still waited for counts from when it was due. It ends with its
standard input, and fails when an answer is not what it has to be.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from support import h2_frames as h2

PERIOD = 0.005
BODY = b"calm"
HOST = "calm.example"
REQUEST = h2.hpack_block([(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/")])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request on one connection."""
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def open_http1(host: str, port: int) -> Callable[[], Awaitable[None]]:
    """A connection of HTTP/1.1; what is returned makes one request on it."""
    reader, writer = await asyncio.open_connection(host, port)

    async def request() -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert await reader.readexactly(len(BODY)) == BODY

    return request


async def open_http2(host: str, port: int) -> Callable[[], Awaitable[None]]:
    """The same over HTTP/2."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(h2.PREFACE + h2.settings() + h2.window_update(0, h2.MAX_WINDOW - h2.DEFAULT_WINDOW))
    stream = -1
    buffer = bytearray()

    async def request() -> None:
        nonlocal stream
        stream += 2
        writer.write(h2.headers(stream, REQUEST, end=True))
        body = b""
        while True:
            data = await reader.read(65536)
            assert data, "ended"
            buffer.extend(data)
            for frame in h2.take_frames(buffer):
                if frame.type == h2.SETTINGS and not frame.flags & h2.ACK:
                    writer.write(h2.settings_ack())
                assert frame.type not in (h2.GOAWAY, h2.RST_STREAM), str(frame)
                body += frame.payload if frame.type == h2.DATA else b""
                if frame.ends_stream:
                    assert (frame.stream, body) == (stream, BODY)
                    return

    return request


async def keep_asking(name: str, request: Callable[[], Awaitable[None]]) -> None:
    """Requests, one each `PERIOD`."""
    due = time.monotonic()
    while True:
        await request()
        print(due, time.monotonic() - due, name, flush=True)
        due += PERIOD
        if (left := due - time.monotonic()) > 0:
            await asyncio.sleep(left)


async def main() -> None:
    """The program."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    standard_input = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(standard_input), sys.stdin)
    host, port = (await standard_input.readline()).decode().split()
    clients = [
        asyncio.create_task(keep_asking(name, await opened(host, int(port))))
        for name, opened in (("http1", open_http1), ("http2", open_http2))
    ]
    end = asyncio.create_task(standard_input.read())
    done, _ = await asyncio.wait([*clients, end], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


if __name__ == "__main__":
    asyncio.run(main())
