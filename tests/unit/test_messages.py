"""The messages of a process: what a line says, where it goes, and that a dead output holds nobody up."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vsproxy import Config, Proxy, messages
from vsproxy.messages import PATIENCE, MessageLog

LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<level>[A-Z]+) "
    r"\[(?P<process>\w+( \d+)?) (?P<pid>\d+)\] (?P<text>.*)"
)

log = logging.getLogger("vsproxy.test")


@contextmanager
def started(path: Path | str, level: str = "info", process: str = "supervisor") -> Iterator[MessageLog]:
    message_log = MessageLog(level, str(path), process)
    message_log.start()
    try:
        yield message_log
    finally:
        message_log.close()


def drop_other_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of pytest raise where ours must not, and report what cannot be encoded."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def texts(path: Path) -> list[str]:
    found = []
    for line in path.read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        found.append(match["text"])
    return found


# What a line says


def test_a_line_names_time_level_process_and_pid(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"
    before = time.time()
    with started(path):
        log.warning("pool %s: %s is down", "app", "10.0.0.1:8080")
    after = time.time()
    match = LINE.fullmatch(path.read_text().rstrip("\n"))
    assert match
    assert match["level"] == "WARNING"
    assert (match["process"], int(match["pid"])) == ("supervisor", os.getpid())
    assert match["text"] == "pool app: 10.0.0.1:8080 is down"
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    assert second <= match["time"] <= time.strftime("%Y-%m-%dT%H:%M:%S.999Z", time.gmtime(after))


def test_the_example_in_the_docstring_is_such_a_line() -> None:
    example = next(line for line in (messages.__doc__ or "").splitlines() if line.startswith("    "))
    assert LINE.fullmatch(example.strip())


def test_milliseconds_are_those_of_the_record() -> None:
    record = log.makeRecord(log.name, logging.INFO, __file__, 1, "text", (), None)
    record.created, record.msecs = 1700000000.007, 7.0
    line = messages.MessageFormatter("control").format(record)
    assert line == f"2023-11-14T22:13:20.007Z INFO [control {os.getpid()}] text"


def test_no_text_can_look_like_a_message_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "messages.log"
    drop_other_handlers(monkeypatch)
    forged = "x\r\n2026-01-31T12:00:00.000Z ERROR [supervisor 1] \x1b[2Jgone\x85\u2028\ttail é \udc80"
    with started(path):
        log.info("%s", forged)
    assert texts(path) == [
        r"x\r\n2026-01-31T12:00:00.000Z ERROR [supervisor 1] \x1B[2Jgone\x85\u2028\ttail é \udc80"
    ]


def test_a_traceback_is_indented_below_its_message(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"
    with started(path):
        try:
            raise ValueError("first\nsecond\x1b")
        except ValueError:
            log.exception("it broke", stack_info=True)
        log.info("next")
    first, *rest = path.read_text().splitlines()
    assert first.endswith("] it broke")
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest.index("    ValueError: first") + 1 == rest.index(r"    second\x1B")
    assert "    Stack (most recent call last):" in rest
    assert rest[-1].endswith("] next")
    assert all(line.startswith("    ") for line in rest[:-1])


def test_a_message_whose_arguments_do_not_fit_raises_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "messages.log"
    drop_other_handlers(monkeypatch)
    with started(path):
        log.info("%d", "no number")
        log.info("next")
    assert texts(path) == ["next"]
    assert "no number" in capsys.readouterr().err


# What is written, and where


def test_only_what_is_severe_enough_is_written(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"
    with started(path, level="warning") as message_log:
        log.info("no")
        log.warning("yes")
        message_log.set_level("debug")
        log.debug("yes")
        message_log.set_level("error")
        log.warning("no")
        log.error("yes")
    assert texts(path) == ["yes"] * 3


def test_a_dash_is_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with started("-") as message_log:
        log.info("one")
        message_log.reopen()
        log.info("two")
    out, err = capfd.readouterr()
    assert out == ""
    assert [match["text"] for line in err.splitlines() if (match := LINE.fullmatch(line))] == ["one", "two"]
    os.fstat(2)


def test_a_path_that_cannot_be_opened_is_named_and_changes_nothing(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, len(os.listdir("/proc/self/fd")))
    path = tmp_path / "missing" / "messages.log"
    with pytest.raises(OSError, match=re.escape(str(path))):
        MessageLog("debug", str(path), "supervisor").start()
    assert (list(root.handlers), root.level, len(os.listdir("/proc/self/fd"))) == before


def test_a_closed_stderr_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(descriptor: int) -> int:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(os, "dup", closed)
    with pytest.raises(OSError, match="stderr"):
        MessageLog("info", "-", "supervisor").start()


def test_close_leaves_logging_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, len(os.listdir("/proc/self/fd")))
    with started(tmp_path / "messages.log", level="debug") as message_log:
        assert len(root.handlers) == len(before[0]) + 1
        message_log.close()
        log.error("nowhere")
    assert (list(root.handlers), root.level, len(os.listdir("/proc/self/fd"))) == before
    assert (tmp_path / "messages.log").read_text() == ""


async def test_a_proxy_in_a_program_leaves_logging_alone() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("vsproxy").handlers)
    proxy = Proxy(Config.model_validate({"log": {"level": "debug"}, "listeners": [{"bind": "127.0.0.1:0"}]}))
    await proxy.start()
    assert (list(root.handlers), root.level, logging.getLogger("vsproxy").handlers) == before
    await proxy.close()
    assert (list(root.handlers), root.level, logging.getLogger("vsproxy").handlers) == before


def test_after_a_fork_lines_name_the_child(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"
    with started(path) as message_log:
        pid = os.fork()
        if pid == 0:
            message_log.renamed("worker 7")
            log.info("child")
            os._exit(0)
        os.waitpid(pid, 0)
        log.info("parent")
    lines = [match for line in path.read_text().splitlines() if (match := LINE.fullmatch(line))]
    assert [(match["process"], int(match["pid"]), match["text"]) for match in lines] == [
        ("worker 7", pid, "child"),
        ("supervisor", os.getpid(), "parent"),
    ]


# Renamed files


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("removed", [True, False])
def test_a_file_that_is_not_there_any_more_is_opened_again(tmp_path: Path, told: bool, removed: bool) -> None:
    path = tmp_path / "messages.log"
    with started(path) as message_log:
        log.info("old")
        if removed:
            path.unlink()
        else:
            path.rename(tmp_path / "messages.log.1")
        if told:
            message_log.reopen()
        log.info("new")
    assert texts(path) == ["new"]
    if not removed:
        assert texts(tmp_path / "messages.log.1") == ["old"]


@pytest.mark.parametrize("told", [True, False])
def test_when_the_path_cannot_be_opened_again_the_old_file_is_kept(tmp_path: Path, told: bool) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    path = folder / "messages.log"
    with started(path) as message_log:
        folder.rename(moved)
        if told:
            message_log.reopen()
        log.info("one")
        log.info("two")
        folder.mkdir()
        log.info("three")
    complaint, *rest = texts(moved / "messages.log")
    assert re.search(f"{path} cannot be reopened, the old file is kept: .*No such file", complaint)
    assert rest == ["one", "two"]
    assert texts(path) == ["three"]


# Changes


def test_a_change_of_path_and_level_loses_and_doubles_nothing(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with started(tmp_path / "messages.0") as message_log:
        for number in range(1, 51):
            log.info("%d", number)
            message_log.prepare("info", str(tmp_path / f"messages.{number}"))
            log.info("%d prepared", number)
            message_log.commit()
    files = [tmp_path / f"messages.{number}" for number in range(51)]
    assert [text for file in files for text in texts(file)] == [
        text for number in range(1, 51) for text in (f"{number}", f"{number} prepared")
    ]
    assert [len(texts(file)) for file in files] == [2] * 50 + [0]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_change_of_level_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"
    with started(path) as message_log:
        message_log.prepare("debug", str(path))
        message_log.commit()
        log.debug("seen")
        message_log.prepare("error", str(path))
        message_log.commit()
        log.debug("not seen")
    assert texts(path) == ["seen"]


def test_a_change_that_is_impossible_or_dropped_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"
    with started(path) as message_log:
        descriptors = len(os.listdir("/proc/self/fd"))
        missing = tmp_path / "missing" / "messages.log"
        with pytest.raises(OSError, match=re.escape(str(missing))):
            message_log.prepare("error", str(missing))
        message_log.prepare("error", str(tmp_path / "other"))
        message_log.cancel()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        log.info("still here")
    assert texts(path) == ["still here"]


# Outputs that take nothing


def test_a_full_disk_loses_messages_and_says_so_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"
    path.symlink_to("/dev/full")
    with started(path):
        for _ in range(3):
            log.info("lost")
        path.unlink()
        log.info("new file")
    assert texts(path) == ["3 messages were lost: [Errno 28] No space left on device", "new file"]


def test_a_reader_that_stopped_holds_nobody_up_and_hears_what_it_missed(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    text = "x" * 1000
    with started(path):
        begun = time.monotonic()
        for _ in range(1000):
            log.info(text)
        # One wait, not a thousand.
        assert time.monotonic() - begun < 20 * PATIENCE
        written = os.read(reader, 2_000_000).decode().splitlines()
        log.info("again")
        *_, notice, last = os.read(reader, 2_000_000).decode().splitlines()
    assert all((match := LINE.fullmatch(line)) and match["text"] == text for line in written)
    assert 0 < len(written) < 100
    assert notice.endswith(f"] {1000 - len(written)} messages were lost: no room")
    assert last.endswith("] again")
    os.close(reader)


async def test_the_loop_reports_what_nobody_caught(tmp_path: Path) -> None:
    path = tmp_path / "messages.log"

    def broken() -> None:
        raise ZeroDivisionError

    with started(path):
        asyncio.get_running_loop().call_soon(broken)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert "    ZeroDivisionError\n" in path.read_text()
