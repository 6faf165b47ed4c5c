"""The servers behind the proxies, in one process."""

from __future__ import annotations

from pathlib import Path

from bench.native_programs import Programs
from bench.processes import Process, free_ports

_ANNOUNCED_S = 75


def server_addresses(count: int) -> tuple[str, ...]:
    """Of that many servers: addresses of the loopback network, all on one free port."""
    (port,) = free_ports(1)
    return ("127.0.0.1:" + str(port), *(f"127.1.{n // 250}.{n % 250 + 1}:{port}" for n in range(count - 1)))


def start_servers(
    programs: Programs, core: int, directory: Path, addresses: tuple[str, ...], announce: bool
) -> Process:
    """`announce`: say in each answer how long an idle connection is kept, as Apache and Node do and nginx does not."""
    said = ["--announce", str(_ANNOUNCED_S)] if announce else []
    process = Process("servers", [str(programs.server), *said, *addresses], str(core), directory)
    process.wait_for_port(int(addresses[0].rpartition(":")[2]))
    return process
