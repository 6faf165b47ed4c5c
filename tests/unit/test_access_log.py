"""The access log: what a line says, and that nothing a client or a disk does can hurt loop or file."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsproxy import access_line
from vsproxy.access_line import AccessLines, AccessRecord, CombinedLines, JsonLines
from vsproxy.access_log import AccessLog
from vsproxy.log_writer import BATCH_BYTES
from vsproxy.timers import Sweep

JSON_KEYS = [
    "time", "client", "method", "host", "path", "proto", "status", "bytes_in", "bytes_out", "queue_ms",
    "connect_ms", "first_byte_ms", "total_ms", "pool", "server", "tries", "request_id", "outcome", "listener",
    "tls", "referer", "user_agent",
]  # fmt: skip
COMBINED = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+)'
    r' "(?P<referer>[^"]*)" "(?P<agent>[^"]*)"\n'
)


def record(**changes: object) -> AccessRecord:
    fields: dict[str, object] = {
        "time": 1700000000.25, "client": "203.0.113.7", "listener": "0.0.0.0:443", "method": b"GET",
        "host": b"storage.example.com", "target": b"/api/files?dir=%2Fhome", "minor": 1, "status": 200,
        "bytes_in": 12, "bytes_out": 34567, "queue": -1.0, "connect": 0.0015, "first_byte": 0.0125,
        "total": 2.5, "pool": "vaultstadio", "server": "10.0.0.1:8080", "tries": 2, "request_id": b"c0ffee",
        "outcome": "ok", "referer": b"https://storage.example.com/", "user_agent": b"curl/8.5", "tls": True,
    }  # fmt: skip
    made = AccessRecord()
    fields |= changes
    referer, user_agent = fields.pop("referer"), fields.pop("user_agent")
    assert isinstance(referer, bytes)
    assert isinstance(user_agent, bytes)
    made.fields = b"Referer:" + referer + b"\r\nUser-Agent:" + user_agent + b"\r\n"
    made.referer = 8
    made.referer_end = 8 + len(referer)
    made.user_agent = made.referer_end + 13
    made.user_agent_end = made.user_agent + len(user_agent)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def line_of(lines: AccessLines, made: AccessRecord) -> str:
    """The line, behind something and with exactly the room that it may need."""
    buffer = bytearray(b"#" * (1 + made.room()))
    end = lines.put_line(buffer, 1, made)
    assert buffer[:1] == b"#"
    assert not buffer[end:].strip(b"#")
    return buffer[1:end].decode("ascii")


def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for something the writer thread does; it tells nobody, so it is looked at."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        threading.Event().wait(0.002)


# What a line says


def test_json_has_every_key_in_its_order() -> None:
    line = line_of(JsonLines(), record())
    values = json.loads(line)
    assert list(values) == JSON_KEYS
    assert values == {
        "time": "2023-11-14T22:13:20.250Z", "client": "203.0.113.7", "method": "GET",
        "host": "storage.example.com", "path": "/api/files?dir=%2Fhome", "proto": "HTTP/1.1", "status": 200,
        "bytes_in": 12, "bytes_out": 34567, "queue_ms": None, "connect_ms": 1.5, "first_byte_ms": 12.5,
        "total_ms": 2500.0, "pool": "vaultstadio", "server": "10.0.0.1:8080", "tries": 2,
        "request_id": "c0ffee", "outcome": "ok", "listener": "0.0.0.0:443", "tls": True,
        "referer": "https://storage.example.com/", "user_agent": "curl/8.5",
    }  # fmt: skip


def test_the_docstring_names_the_keys_in_their_order() -> None:
    text = (access_line.__doc__ or "").partition("Combined:")[0]
    assert [word for word in re.findall(r"`(\w+)`", text) if word in JSON_KEYS] == JSON_KEYS


@pytest.mark.parametrize("lines", [JsonLines(), CombinedLines()])
def test_the_cached_second_follows_the_record(lines: AccessLines) -> None:
    first = line_of(lines, record(time=1700000000.999))
    other = line_of(lines, record(time=1700000061.0))
    assert first == line_of(lines, record(time=1700000000.999))
    assert "13:20" in first
    assert "14:21" in other


def test_combined_is_what_log_readers_expect() -> None:
    assert line_of(CombinedLines(), record()) == (
        '203.0.113.7 - - [14/Nov/2023:22:13:20 +0000] "GET /api/files?dir=%2Fhome HTTP/1.1" 200 34567'
        ' "https://storage.example.com/" "curl/8.5"\n'
    )


def test_what_could_not_be_read_is_a_dash_in_combined_and_empty_in_json() -> None:
    broken = record(client="", method=b"", target=b"", referer=b"", user_agent=b"", status=400, bytes_out=0)
    assert line_of(CombinedLines(), broken) == '- - - [14/Nov/2023:22:13:20 +0000] "-" 400 0 "-" "-"\n'
    values = json.loads(line_of(JsonLines(), broken))
    assert (values["method"], values["path"], values["proto"], values["client"]) == ("", "", "", "")


# Nothing can be injected

client_bytes = st.fixed_dictionaries(
    {
        name: st.binary(max_size=40)
        for name in ("method", "host", "target", "request_id", "referer", "user_agent")
    }
)
names = st.fixed_dictionaries(
    {name: st.text(max_size=20) for name in ("client", "pool", "server", "outcome", "listener")}
)


@given(sent=client_bytes, known=names)
def test_json_gives_back_any_bytes_on_one_line(sent: dict[str, bytes], known: dict[str, str]) -> None:
    line = line_of(JsonLines(), record(**sent, **known))
    assert line.isascii()
    assert line.endswith("}\n")
    assert len(line.splitlines()) == 1
    values = json.loads(line)
    assert list(values) == JSON_KEYS
    values["target"] = values["path"]
    assert {name: values[name].encode("latin-1") for name in sent} == sent
    assert {name: values[name] for name in known} == known


@given(sent=client_bytes, client=st.text(st.characters(), max_size=20))
def test_combined_has_its_shape_for_any_bytes(sent: dict[str, bytes], client: str) -> None:
    line = line_of(CombinedLines(), record(**sent, client=client))
    match = COMBINED.fullmatch(line)
    assert match is not None
    assert line[:-1].isprintable()
    assert unescape(match["agent"]) == (sent["user_agent"] or b"-")
    assert unescape(match["referer"]) == (sent["referer"] or b"-")


def unescape(text: str) -> bytes:
    return re.sub(r"\\x([0-9A-F]{2})", lambda hit: chr(int(hit[1], 16)), text).encode("latin-1")


def test_a_forged_line_stays_inside_its_field() -> None:
    agent = b'x"\r\n203.0.113.9 - - [now] "GET /admin HTTP/1.1" 200 0 "-" "\\'
    assert r'"x\x22\x0D\x0A203.0.113.9 - - [now] \x22GET' in line_of(CombinedLines(), record(user_agent=agent))
    assert json.loads(line_of(JsonLines(), record(user_agent=agent)))["user_agent"] == agent.decode()


# What is kept from one line to the next


def test_more_clients_than_are_kept_have_their_names() -> None:
    lines = JsonLines()
    for number in (*range(access_line.MAX_NAMES + 10), 0):
        client = f"10.0.{number // 256}.{number % 256}"
        assert json.loads(line_of(lines, record(client=client)))["client"] == client


@given(st.floats(min_value=0.0, max_value=1e9))
def test_durations_are_rounded_to_microseconds(seconds: float) -> None:
    value = re.search(r'"total_ms":(\d+\.\d{3}),', line_of(JsonLines(), record(total=seconds)))
    assert value is not None
    assert abs(Decimal(value[1]) - Decimal(seconds) * 1000) <= Decimal("0.000501") + Decimal(seconds) / 10**12


@pytest.mark.parametrize("number", [0, 9, 10, 99, 100, 12345, 2**32, 10**18, 2**63 - 1])
def test_numbers_of_any_size(number: int) -> None:
    values = json.loads(line_of(JsonLines(), record(bytes_in=number, bytes_out=number)))
    assert (values["bytes_in"], values["bytes_out"]) == (number, number)


# Where the lines go


@pytest.mark.parametrize("format", ["json", "combined"])
async def test_lines_arrive_with_the_next_walk_of_the_sweep(tmp_path: Path, format: str) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(format, str(path))  # type: ignore[arg-type]
    log.start()
    sweep = Sweep(asyncio.get_running_loop())
    sweep.add(log)
    for status in range(200, 210):
        log.log(record(status=status))
    assert path.read_text() == ""
    sweep.start()
    eventually(lambda: path.read_text().count("\n") == 10)
    sweep.stop()
    log.close()
    assert (log.written, log.lost) == (10, 0)


def test_many_lines_do_not_wait_for_the_sweep(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog("json", str(path))
    log.start()
    size = len(line_of(JsonLines(), record()))
    for _ in range(2 * BATCH_BYTES // size):
        log.log(record())
    eventually(lambda: path.stat().st_size > BATCH_BYTES // 2)
    assert path.stat().st_size % size == 0
    log.close()
    assert log.lost == 0


@pytest.mark.parametrize("format", ["json", "combined"])
def test_a_line_larger_than_the_buffer_is_whole_and_in_its_place(tmp_path: Path, format: str) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(format, str(path))  # type: ignore[arg-type]
    log.start()
    agents = [b"first", b"\xff" * BATCH_BYTES, b"x" * (3 * BATCH_BYTES), b"last"]
    for agent in agents:
        log.log(record(user_agent=agent))
    log.close()
    assert (log.written, log.lost) == (4, 0)
    lines: AccessLines = JsonLines() if format == "json" else CombinedLines()
    assert path.read_text() == "".join(line_of(lines, record(user_agent=agent)) for agent in agents)


def test_a_dash_is_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog("json", "-")
    log.start()
    log.log(record(status=418))
    log.reopen()
    log.log(record(status=419))
    log.close()
    assert [json.loads(line)["status"] for line in capfd.readouterr().out.splitlines()] == [418, 419]
    os.fstat(1)


def test_off_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    threads = threading.active_count()
    log = AccessLog("off", str(path))
    log.start()
    log.log(record())
    log.reopen()
    assert threading.active_count() == threads
    log.close()
    assert not path.exists()
    assert (log.written, log.lost) == (0, 0)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="xml"):
        AccessLog("xml", "-")  # type: ignore[arg-type]


def test_a_path_that_cannot_be_opened_fails_at_start(tmp_path: Path) -> None:
    log = AccessLog("json", str(tmp_path / "missing" / "access.log"))
    with pytest.raises(FileNotFoundError):
        log.start()
    log.log(record())
    log.close()
    assert (log.written, log.lost) == (0, 1)


# Nothing blocks, nothing is raised, everything is counted


def test_a_full_disk_loses_lines_and_counts_them() -> None:
    log = AccessLog("json", "/dev/full")
    log.start()
    for _ in range(500):
        log.log(record())
    log.close()
    assert (log.written, log.lost) == (0, 500)


def test_a_broken_pipe_loses_lines_and_counts_them(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog("json", str(fifo))
    log.start()
    log.log(record())
    log.flush()
    eventually(lambda: log.written == 1)
    os.close(reader)
    log.log(record())
    log.flush()
    eventually(lambda: log.lost == 1)
    log.close()
    assert (log.written, log.lost) == (1, 1)


def test_lines_after_close_are_lost_and_counted(tmp_path: Path) -> None:
    log = AccessLog("json", str(tmp_path / "access.log"))
    log.start()
    log.close()
    log.log(record())
    log.close()
    assert (log.written, log.lost) == (0, 1)


# Rotation


def test_rotation_under_load_loses_and_tears_nothing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog("json", str(path))
    log.start()
    count = 0
    for rotation in range(5):
        for _ in range(2000):
            log.log(record(bytes_out=count))
            count += 1
        path.rename(tmp_path / f"access.log.{rotation}")
        log.reopen()
        while not path.exists():
            log.log(record(bytes_out=count))
            count += 1
            # The disk may take its time, and the queue is not endless.
            time.sleep(0.001)
    log.close()
    files = [*(tmp_path / f"access.log.{rotation}" for rotation in range(5)), path]
    numbers = [json.loads(line)["bytes_out"] for file in files for line in file.read_text().splitlines()]
    assert numbers == list(range(count))
    assert (log.written, log.lost) == (count, 0)


# Another log beside it


def numbers(text: str) -> list[int]:
    """`bytes_out` of each line, in either format."""
    found = []
    for line in text.splitlines(keepends=True):
        match = COMBINED.fullmatch(line)
        found.append(int(match["bytes"]) if match else json.loads(line)["bytes_out"])
    return found


@pytest.mark.parametrize("same_path", [True, False])
def test_a_change_of_format_and_path_loses_and_doubles_nothing(tmp_path: Path, same_path: bool) -> None:
    lock = os.memfd_create("test")
    before = len(os.listdir("/proc/self/fd"))
    log = AccessLog("json", str(tmp_path / "log.0"), lock)
    log.start()
    count = written = lost = 0
    for change in range(1, 21):
        for _ in range(300):
            log.log(record(bytes_out=count, user_agent=b"x" * (count % 5000)))
            count += 1
        path = tmp_path / ("log.0" if same_path else f"log.{change}")
        new = AccessLog("json" if change % 2 else "combined", str(path), lock)
        new.start()
        log, old = new, log
        log.log(record(bytes_out=count))
        count += 1
        old.close(10)
        written, lost = written + old.written, lost + old.lost
    log.close(10)
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert sorted(numbers(text)) == list(range(count))
    assert (written + log.written, lost + log.lost) == (count, 0)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(lock)


def test_a_log_that_cannot_be_opened_leaves_the_old_one_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog("json", str(path))
    log.start()
    log.log(record(bytes_out=1))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "missing" / "access.log"))):
        AccessLog("json", str(tmp_path / "missing" / "access.log")).start()
    log.log(record(bytes_out=2))
    log.close()
    assert numbers(path.read_text()) == [1, 2]


def test_a_log_that_was_prepared_in_vain_is_closed(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    log = AccessLog("json", str(tmp_path / "access.log"))
    log.start()
    log.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)
