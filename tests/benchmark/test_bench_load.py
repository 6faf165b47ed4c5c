"""The load: what is right counts, what is wrong is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench import requests
from bench.errors import VoidError
from bench.load import Answered, Load, RunningLoad
from bench.native_programs import Programs
from bench.pattern import pattern
from bench.servers import server_addresses, start_servers
from support.bench_peers import ScriptedPeer, answer, cores, running

BODY = pattern(12)
GET = Load((requests.get(12, requests.BARE),), size=12, connections=4, count=40)


def run(programs: Programs, port: int, load: Load) -> Answered:
    with RunningLoad(programs.load, cores().load, port, load) as started:
        started.wait_ready()
        return started.go()


@contextmanager
def servers(programs: Programs, directory: Path) -> Iterator[int]:
    addresses = server_addresses(1)
    process = start_servers(programs, cores().load, directory, addresses, announce=True)
    try:
        yield int(addresses[0].rpartition(":")[2])
    finally:
        process.stop()


WRONG = {
    "another body": (answer(b"Hello world!"), "a wrong byte in the body"),
    "its last byte": (answer(BODY[:-1] + bytes([BODY[-1] ^ 1])), "a wrong byte in the body"),
    "a shorter body": (answer(BODY[:-1]), "11 bytes instead of 12"),
    "a longer body": (answer(pattern(13)), "13 bytes instead of 12"),
    "another status": (answer(BODY, "503 Service Unavailable"), "503 instead of 200"),
    "bytes after it": (answer(BODY) + b"x", "more came back than one answer|nobody asked for"),
    "no answer": (b"", "without an answer"),
    "something else": (b"+OK\r\n\r\n-----", "does not begin with HTTP"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_answer_is_said(programs: Programs, tmp_path: Path, kind: str) -> None:
    given, words = WRONG[kind]
    with running(ScriptedPeer("wrong", given), tmp_path) as port, pytest.raises(VoidError, match=words):
        run(programs, port, GET)


def test_an_answer_cut_short_is_said(programs: Programs, tmp_path: Path) -> None:
    cut = ScriptedPeer("cut", answer(BODY[:6], length=12), "--close")
    with running(cut, tmp_path) as port, pytest.raises(VoidError, match="cut short"):
        run(programs, port, GET)


def test_a_close_without_a_word_is_said(programs: Programs, tmp_path: Path) -> None:
    with running(ScriptedPeer("closing", answer(BODY), "--close"), tmp_path) as port:
        with pytest.raises(VoidError, match="closed"):
            run(programs, port, GET)


def test_a_wrong_answer_among_right_ones_is_said(programs: Programs, tmp_path: Path) -> None:
    """The same answer is right for one request and wrong for the last."""
    right, other = requests.get(12, requests.BARE), requests.post(12, b"x", requests.BARE)
    load = Load((*[right] * 30, other), size=12, connections=1, count=100)
    with servers(programs, tmp_path) as port, pytest.raises(VoidError, match="422 instead of 200") as raised:
        run(programs, port, load)
    assert "after 29 that were right" in str(raised.value)


def test_right_answers_count(programs: Programs, tmp_path: Path) -> None:
    with running(ScriptedPeer("right", answer(BODY)), tmp_path) as port:
        found = run(programs, port, GET)
    assert found.requests == 40
    assert found.reopened == 0
    assert found.bytes == 44 * len(answer(BODY))
    assert 0 < found.p50_us <= found.p99_us <= found.max_us


def test_an_announced_close_is_no_error(programs: Programs, tmp_path: Path) -> None:
    announced = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\n\r\n" + BODY
    with running(ScriptedPeer("announced", announced, "--close"), tmp_path) as port:
        found = run(programs, port, GET)
    assert found.requests == 40
    # Once for each connection's first request, which is not measured.
    assert found.reopened == 44


LOADS = {
    "kept": GET,
    "closing": replace(GET, requests=(requests.get_closing(12, requests.BROWSER),), close=True),
    "large": Load((requests.get(3_000_000, requests.BARE),), size=3_000_000, connections=2, count=4),
    "post": Load((requests.post(12, pattern(70_000), requests.BARE),), size=12, count=100),
    "chunked": Load((requests.post_chunked(12, pattern(70_000), requests.BARE, 8192),), size=12, count=100),
    "upload": Load(
        (requests.upload_head(12, 3_000_000, requests.BARE),), size=12, upload=3_000_000, connections=1, count=2
    ),
    "websocket": Load((requests.websocket(),), frame=128, connections=4, count=100),
    "large frames": Load((requests.websocket(),), frame=3000, connections=4, count=100),
    "scheduled": Load(GET.requests, size=12, connections=4, rate=1000, seconds=0.1),
}


@pytest.mark.parametrize("kind", LOADS)
def test_the_servers_answer_every_load(programs: Programs, tmp_path: Path, kind: str) -> None:
    load = LOADS[kind]
    with servers(programs, tmp_path) as port:
        assert run(programs, port, load).requests == (load.count or load.rate * load.seconds)


@pytest.mark.parametrize("body", [pattern(99), pattern(101), pattern(99) + b"\0"])
def test_a_wrong_upload_is_refused(programs: Programs, tmp_path: Path, body: bytes) -> None:
    head = requests.upload_head(12, 100, {})
    request = head.replace(b"Content-Length: 100", b"Content-Length: %d" % len(body)) + body
    with servers(programs, tmp_path) as port, pytest.raises(VoidError, match="422"):
        run(programs, port, Load((request,), size=12, count=1))


def test_the_schedule_is_kept_by_a_proxy_that_stalls(programs: Programs, tmp_path: Path) -> None:
    """What became due while it stalled has waited since then, sent or not."""
    stall = 0.3
    stalling = ScriptedPeer("stalling", answer(BODY), "--stall", str(stall))
    load = Load(GET.requests, size=12, connections=1, rate=200, seconds=1)
    with running(stalling, tmp_path) as port:
        found = run(programs, port, load)
    assert found.requests == 200
    # Sixty of two hundred became due in that time; without a schedule it would be the one.
    assert found.max_us >= stall * 1e6
    assert found.p99_us >= stall * 1e6 * 0.9


def test_idle_connections_that_are_closed_are_said(programs: Programs, tmp_path: Path) -> None:
    peer = ScriptedPeer("leaving", answer(BODY))
    with running(peer, tmp_path) as port:
        started = RunningLoad(programs.load, cores().load, port, GET)
        started.wait_ready()
    with started, pytest.raises(VoidError, match="closed while idle"):
        started.stop()


def test_idle_connections_that_stay_are_none(programs: Programs, tmp_path: Path) -> None:
    with servers(programs, tmp_path) as port, RunningLoad(programs.load, cores().load, port, GET) as started:
        started.wait_ready()
        assert started.stop().requests == 0
