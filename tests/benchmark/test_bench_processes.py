"""Programs that are started and ended, and the ports that they get."""

from __future__ import annotations

import os
import resource
import socket
import time
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.processes import Process, free_ports, most_connections, raise_descriptor_limit
from support.bench_peers import cores

CORE = str(cores().proxy)


def test_ports_are_free_and_none_is_there_twice() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    for port in ports:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))


def test_a_program_is_pinned_and_gets_its_environment(tmp_path: Path) -> None:
    process = Process("shell", ["sh", "-c", "echo $WORD; exec sleep 30"], CORE, tmp_path, {"WORD": "hello"})
    try:
        while not (tmp_path / "shell.out").read_text():
            assert process.alive
        assert process.last_words() == "hello"
        assert os.sched_getaffinity(process.pid) == {int(CORE)}
    finally:
        process.stop()
    assert not process.alive


def test_one_that_ends_does_not_listen(tmp_path: Path) -> None:
    process = Process("failing", ["sh", "-c", "echo why >&2; exit 3"], CORE, tmp_path)
    with pytest.raises(BenchError, match="failing ended: why"):
        process.wait_for_port(*free_ports(1))
    process.stop()


def test_its_children_end_with_it(tmp_path: Path) -> None:
    """Those too that outlive it."""
    process = Process("parent", ["sh", "-c", "sleep 300 & echo $!; wait"], CORE, tmp_path)
    while not (text := (tmp_path / "parent.out").read_text()).endswith("\n"):
        assert process.alive
    child = Path(f"/proc/{int(text)}")
    assert child.exists()
    process.stop()
    # It may take a moment to end, and whoever adopts it another one to bury it.
    deadline = time.monotonic() + 20
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_limit_of_open_files_is_as_high_as_it_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        found = raise_descriptor_limit()
        assert found == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert found >= before[0]
        assert 2 * most_connections(found) < found
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
