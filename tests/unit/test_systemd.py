"""What systemd is told, on the kind of socket that it listens on, and that telling it never does harm."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsproxy.systemd import Notifier

PATIENCE = 20.0


class Manager:
    """The socket of a service manager, and what arrives on it."""

    def __init__(self, address: str) -> None:
        self.name = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(PATIENCE)

    def hears(self) -> list[str]:
        """The fields of the next message, whose sender is this process."""
        message, ancillary, _, _ = self._socket.recvmsg(4096, 1024)
        [credentials] = [data for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS]
        assert struct.unpack("3i", credentials)[0] == os.getpid()
        return message.decode().split("\n")

    def has_heard_all(self) -> bool:
        self._socket.setblocking(False)
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(PATIENCE)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(f"@{tmp_path}/notify" if request.param == "an abstract name" else f"{tmp_path}/notify")
    yield manager
    manager.close()


@pytest.fixture
def notifier(manager: Manager) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.name})


def test_ready(manager: Manager, notifier: Notifier) -> None:
    notifier.ready()
    assert manager.hears() == ["READY=1", f"MAINPID={os.getpid()}", "STATUS=serving"]
    notifier.ready("serving from 2 workers")
    assert manager.hears() == ["READY=1", f"MAINPID={os.getpid()}", "STATUS=serving from 2 workers"]
    assert manager.has_heard_all()


def test_reloading_says_when_it_began(manager: Manager, notifier: Notifier) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, when, status = manager.hears()
    assert (first, status) == ("RELOADING=1", "STATUS=reloading")
    name, number = when.split("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(number) <= after


def test_stopping(manager: Manager, notifier: Notifier) -> None:
    notifier.stopping()
    assert manager.hears() == ["STOPPING=1", "STATUS=stopping"]


def test_stopping_asks_for_the_time_it_takes(manager: Manager, notifier: Notifier) -> None:
    notifier.stopping(1.5, "stopping: 7 exchanges in flight")
    assert manager.hears() == [
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STATUS=stopping: 7 exchanges in flight",
    ]


@pytest.mark.parametrize(
    ("text", "sent"),
    [("größer", "größer"), ("one\nREADY=1\r\ntwo", "one READY=1 two"), ("a\udcff", "a?"), ("", "")],
)
def test_a_status_is_one_line(manager: Manager, notifier: Notifier, text: str, sent: str) -> None:
    notifier.status(text)
    assert manager.hears() == [f"STATUS={sent}"]


def test_the_watchdog(manager: Manager, notifier: Notifier) -> None:
    notifier.watchdog()
    assert manager.hears() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
        ({}, None),
    ],
)
def test_how_often_to_call_the_watchdog(given: dict[str, str], interval: float | None) -> None:
    """A third of what systemd waits for: sd_watchdog_enabled(3) recommends half at most."""
    # The process of the parametrisation is that of the test: workers of pytest collect for themselves.
    assert Notifier({"NOTIFY_SOCKET": "/somewhere", **given}).watchdog_interval == interval
    assert Notifier(given).watchdog_interval is None


def test_children_do_not_inherit_it(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("NOTIFY_SOCKET", manager.name),
        ("WATCHDOG_USEC", "30000000"),
        ("WATCHDOG_PID", str(os.getpid())),
    ):
        monkeypatch.setenv(name, value)
    notifier = Notifier(os.environ)
    shown = subprocess.run(["env"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "NOTIFY_SOCKET" not in shown
    assert "WATCHDOG" not in shown
    assert notifier.watchdog_interval == 10.0
    notifier.ready()
    assert manager.hears()[0] == "READY=1"


def everything(notifier: Notifier) -> None:
    notifier.ready()
    notifier.reloading()
    notifier.status("text")
    notifier.watchdog()
    notifier.stopping(5.0)


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    everything(Notifier({}))
    everything(Notifier({"NOTIFY_SOCKET": ""}))


@pytest.mark.parametrize("address", ["vsock-stream:2:1234", "notify"])
def test_an_address_that_is_not_understood(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    everything(Notifier({"NOTIFY_SOCKET": address}))
    assert address in caplog.text


@pytest.mark.parametrize("name", ["notify", "x" * 200])
def test_nobody_is_there(tmp_path: Path, name: str) -> None:
    for address in (f"{tmp_path}/{name}", f"@{tmp_path}/{name}"):
        everything(Notifier({"NOTIFY_SOCKET": address}))


def test_a_manager_that_went_away_and_came_back(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    first = Manager(str(path))
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    first.close()
    notifier.status("lost")
    path.unlink()
    second = Manager(str(path))
    notifier.status("heard")
    assert second.hears() == ["STATUS=heard"]
    second.close()


def test_a_manager_that_does_not_read_holds_nothing_up(manager: Manager, notifier: Notifier) -> None:
    """And what it has missed, it gets with the next sign of life, in order."""
    filler = Notifier({"NOTIFY_SOCKET": manager.name})
    room = 0
    while not filler._held:
        filler.status("noise")
        room += 1
    notifier.ready()
    notifier.reloading()
    notifier.watchdog()
    for _ in range(room - 1):
        assert manager.hears() == ["STATUS=noise"]
    assert manager.has_heard_all()
    notifier.watchdog()
    assert [manager.hears()[0] for _ in range(3)] == ["READY=1", "RELOADING=1", "WATCHDOG=1"]
    assert manager.has_heard_all()


def test_no_descriptor_stays_open(manager: Manager, notifier: Notifier) -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    before = descriptors()
    everything(notifier)
    assert descriptors() == before
