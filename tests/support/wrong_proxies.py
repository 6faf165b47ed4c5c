"""A program that stands where a proxy would, and answers as it is told: `python wrong_proxies.py PORT ANSWER`.

ANSWER is a Python bytes literal, sent for each request; an empty one closes the connection. With `--close`, the
connection is closed after each answer. With `--stall SECONDS`, the hundredth request has to wait, and with it all that
come meanwhile. With `--hold BYTES`, each connection takes so much memory while it lasts.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import time


class Answering(asyncio.Protocol):
    """One client."""

    def __init__(self, given: argparse.Namespace, counter: list[int]) -> None:
        self._given = given
        self._counter = counter
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Not of zeros, which the kernel would hand out without taking memory for them.
        self._held = b"x" * self._given.hold

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            _, _, self._received = self._received.partition(b"\r\n\r\n")
            self._counter[0] += 1
            if self._given.stall and self._counter[0] == 100:
                time.sleep(self._given.stall)
            self._transport.write(self._given.answer)
            if self._given.close or not self._given.answer:
                self._transport.close()


async def serve(given: argparse.Namespace) -> None:
    counter = [0]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(given, counter), "127.0.0.1", given.port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("answer", type=ast.literal_eval)
    parser.add_argument("--close", action="store_true")
    parser.add_argument("--stall", type=float, default=0.0)
    parser.add_argument("--hold", type=int, default=0)
    asyncio.run(serve(parser.parse_args()))
