"""Peak memory of the proxy during large transfers: `python bench/transfer_memory.py`.

Sends bytes made on the way through a proxy in a process of its own, down, up and both at once, and prints the
peak of its resident memory beside what it had when idle. Nothing touches a disk; both ends compare checksums.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK = os.urandom(1024 * 1024)
MIB = 1024 * 1024


class Server(threading.Thread):
    """GET answers with `size` bytes; PUT reads them and answers with their checksum. One request a connection."""

    def __init__(self, size: int) -> None:
        super().__init__(daemon=True)
        self.size = size
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listening.getsockname()[1])

    def run(self) -> None:
        while True:
            client, _ = self.listening.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as reader:
            method = reader.readline().split(b" ")[0]
            while reader.readline().strip():
                pass
            if method == b"GET":
                client.sendall(head(b"HTTP/1.1 200 OK", self.size))
                send_body(client, self.size)
            else:
                answer = b"%08x" % receive_body(reader.readinto, self.size)
                client.sendall(head(b"HTTP/1.1 200 OK", len(answer)) + answer)


def head(start_line: bytes, length: int) -> bytes:
    return b"%b\r\nHost: bench\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (start_line, length)


def send_body(peer: socket.socket, size: int) -> None:
    for _ in range(size // len(CHUNK)):
        peer.sendall(CHUNK)


def checksum(size: int) -> int:
    """What the body adds up to."""
    value = 0
    for _ in range(size // len(CHUNK)):
        value = zlib.crc32(CHUNK, value)
    return value


def receive_body(read_into: Callable[[memoryview], int], size: int) -> int:
    """Read `size` bytes; their checksum."""
    buffer = memoryview(bytearray(256 * 1024))
    value = 0
    while size:
        count = read_into(buffer[: min(size, len(buffer))])
        if not count:
            sys.exit(f"the transfer ended {size} bytes early")
        value = zlib.crc32(buffer[:count], value)
        size -= count
    return value


def download(port: int, size: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as peer, peer.makefile("rb") as reader:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        expect_ok(reader.readline())
        while reader.readline().strip():
            pass
        return receive_body(reader.readinto, size)


def upload(port: int, size: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as peer, peer.makefile("rb") as reader:
        peer.sendall(head(b"PUT / HTTP/1.1", size))
        send_body(peer, size)
        expect_ok(reader.readline())
        return int(reader.read().split(b"\r\n\r\n")[1], 16)


def expect_ok(line: bytes) -> None:
    if b" 200 " not in line:
        sys.exit(f"answered {line!r}")


@contextlib.contextmanager
def running_proxy(python: str, server_port: int) -> Iterator[tuple[int, int]]:
    """The proxy's process id and port."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "lb.toml")
        config.write_text(
            'log = { access = "off" }\n'
            'listeners = [{ bind = "127.0.0.1:0" }]\n'
            'routes = [{ path = "/", pool = "bench" }]\n'
            f'pools = {{ bench = {{ servers = [{{ address = "127.0.0.1:{server_port}" }}] }} }}\n'
        )
        command = [python, "-P", "-m", "vsproxy", "--config", str(config)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            for line in process.stderr:
                found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
                if found:
                    yield process.pid, int(found.group(1))
                    return
            sys.exit("the proxy did not start")
        finally:
            process.terminate()
            process.wait()


def memory_mib(pid: int, field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the peak), in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1024


def measure(python: str, size: int, name: str) -> dict[str, object]:
    """One kind of transfer through a fresh proxy."""
    server = Server(size)
    server.start()
    wanted = checksum(size)
    transfers = {"down": [download], "up": [upload], "both": [download, upload]}[name]
    with running_proxy(python, server.port) as (pid, port):
        idle = memory_mib(pid, "VmRSS")
        sums: list[int] = []
        began = time.monotonic()
        threads = [
            threading.Thread(target=lambda transfer=transfer: sums.append(transfer(port, size)))
            for transfer in transfers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        peak = memory_mib(pid, "VmHWM")
    if sums != [wanted] * len(transfers):
        sys.exit(f"{name}: the bytes that arrived are not the bytes that were sent")
    return {"transfer": name, "idle_mib": idle, "peak_mib": peak, "mib_per_second": size / MIB / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=2048, help="size of each transfer")
    parser.add_argument("--python", default=sys.executable, help="interpreter with vsproxy installed")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = [measure(args.python, args.mib * MIB, name) for name in ("down", "up", "both")]
    if args.json:
        print(json.dumps(results))
        return
    print(f"{args.mib} MiB  {'idle':>10} {'peak':>10} {'more':>10} {'speed':>12}")
    for row in results:
        idle, peak = float(str(row["idle_mib"])), float(str(row["peak_mib"]))
        speed = f"{row['mib_per_second']:.0f} MiB/s"
        print(f"{row['transfer']!s:8}  {idle:6.1f} MiB {peak:6.1f} MiB {peak - idle:6.1f} MiB {speed:>12}")


if __name__ == "__main__":
    main()
