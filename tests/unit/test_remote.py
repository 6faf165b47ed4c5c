"""How a running supervisor is asked: what arrives, what does not hold it up, and how it is found."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from support.supervising import Desk, Supervising
from vsproxy import VsproxyError, remote
from vsproxy.remote import Peer, RemoteListener, ask

RELOAD: dict[str, object] = {"command": "reload"}
DONE: dict[str, object] = {"ok": True, "message": "reloaded", "problems": [], "notes": []}
PATIENCE = 20.0

Asking = Callable[..., "Future[dict[str, object]]"]


@pytest.fixture
def asking() -> Iterator[Asking]:
    """`ask`, in a thread."""
    with ThreadPoolExecutor() as threads:

        def start(path: str, request: dict[str, object] = RELOAD) -> Future[dict[str, object]]:
            return threads.submit(ask, path, request, PATIENCE)

        yield start


def connected(file: str) -> socket.socket:
    """A client that does as it likes."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(remote._name(file))
    sock.settimeout(PATIENCE)
    return sock


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def test_a_request_and_its_answer(file: str, desk: Desk, asking: Asking) -> None:
    answer = asking(file, {"command": "reload", "why": "größer\n"})
    call, request = desk.next_request()
    assert request == {"command": "reload", "why": "größer\n"}
    assert call.peer == Peer(os.getpid(), os.geteuid())
    assert str(call.peer) == f"process {os.getpid()} (uid {os.geteuid()})"
    call.reply({**DONE, "notes": ["zwei\nZeilen"]})
    assert call.closed
    assert answer.result(PATIENCE) == {**DONE, "notes": ["zwei\nZeilen"]}


def test_it_can_be_asked_again_and_by_many_at_once(file: str, desk: Desk, asking: Asking) -> None:
    answers = [asking(file, {"command": "reload", "number": number}) for number in range(4)]
    for _ in answers:
        call, request = desk.next_request()
        call.reply({"number": request["number"]})
    assert [answer.result(PATIENCE) for answer in answers] == [{"number": number} for number in range(4)]


def test_a_request_in_pieces(file: str, desk: Desk) -> None:
    with connected(file) as client:
        for byte in b'{"command": "x"}':
            client.send(bytes([byte]))
            desk.selector.select(1)
        client.send(b"\n")
        call, request = desk.next_request()
        assert request == {"command": "x"}
        call.reply(DONE)
        assert json.loads(everything(client)) == DONE


@pytest.mark.parametrize("length", [1, 4_000, 300_000])
def test_an_answer_of_any_size_arrives(file: str, desk: Desk, asking: Asking, length: int) -> None:
    problems = [f"lb.toml:{line}: mistake" for line in range(length)]
    answer = asking(file)
    call, _ = desk.next_request()
    call.reply({**DONE, "problems": problems})
    while not call.closed:
        desk.sweep()
    assert answer.result(PATIENCE)["problems"] == problems


def test_the_mistakes_of_a_large_file_do_not_wait_for_the_client(file: str, desk: Desk) -> None:
    problems = [f"lb.toml:{line}: routes[{line}].path: found 7; accepted a path" for line in range(1_000)]
    with connected(file) as client:
        client.send(b'{"command": "reload"}\n')
        call, _ = desk.next_request()
        call.reply({"problems": problems})
        assert call.closed
        assert json.loads(everything(client)) == {"problems": problems}


def test_a_client_that_does_not_read_holds_nothing_up(file: str, desk: Desk, asking: Asking) -> None:
    with connected(file) as client:
        client.send(b'{"command": "reload"}\n')
        call, _ = desk.next_request()
        text = "x" * (8 * remote.MAX_BUFFERED)
        call.reply({"message": text})
        assert not call.closed
        desk.sweep()
        answer = asking(file)
        other, _ = desk.next_request()
        other.reply(DONE)
        assert answer.result(PATIENCE) == DONE
        with ThreadPoolExecutor() as threads:
            received = threads.submit(everything, client)
            while not call.closed:
                desk.sweep()
            assert json.loads(received.result(PATIENCE)) == {"message": text}


def test_a_client_that_never_reads_is_dropped(file: str, desk: Desk) -> None:
    with connected(file) as client:
        client.send(b'{"command": "reload"}\n')
        call, _ = desk.next_request()
        call.reply({"message": "x" * (8 * remote.MAX_BUFFERED)})
        assert desk.listener.sweep() == []
        assert time.monotonic() < call.deadline <= time.monotonic() + remote.DEADLINE
        call.deadline = time.monotonic()
        assert desk.listener.sweep() == [call]
        assert call.closed
        assert not everything(client).endswith(b"\n")


def test_a_silent_client_is_dropped(file: str, desk: Desk) -> None:
    with connected(file) as silent, connected(file) as slow:
        slow.send(b'{"command":')
        calls = [desk.listener.accept(), desk.listener.accept()]
        assert all(call is not None and call.read() is None for call in calls)
        assert desk.listener.sweep() == []
        for call in calls:
            assert time.monotonic() < call.deadline <= time.monotonic() + remote.DEADLINE
            call.deadline = time.monotonic()
        assert set(desk.listener.sweep()) == set(calls)
        assert everything(silent) == everything(slow) == b""
        assert desk.listener.accept() is None


def test_a_request_that_is_being_worked_on_has_no_time_limit(file: str, desk: Desk, asking: Asking) -> None:
    answer = asking(file)
    call, _ = desk.next_request()
    assert call.deadline == float("inf")
    assert desk.listener.sweep() == []
    call.reply(DONE)
    assert answer.result(PATIENCE) == DONE


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"reload\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b'"reload"\n',
        b"{}\n",
        b'{"command": 7}\n',
        b"[" * 60_000 + b"\n",
        b'{"command": "reload"}\n{"command": "reload"}\n',
        b"x" * (remote.MAX_REQUEST + 1),
        b'{"command": "' + b"x" * remote.MAX_REQUEST + b'"}\n',
    ],
    ids=lambda sent: repr(sent[:12]),
)
def test_garbage_is_refused(file: str, desk: Desk, sent: bytes) -> None:
    with connected(file) as client:
        client.sendall(sent)
        call = desk.listener.accept()
        assert call is not None
        while not call.closed:
            assert call.read() is None
        answer = json.loads(client.recv(1 << 16))
        assert answer["ok"] is False
        assert "a request " in answer["message"]


@pytest.mark.parametrize("sent", [b"", b'{"command": "rel', b'{"command": "reload"}'])
def test_a_client_that_leaves_before_its_request_is_whole(file: str, desk: Desk, sent: bytes) -> None:
    with connected(file) as client:
        client.send(sent)
    call = desk.listener.accept()
    assert call is not None
    while not call.closed:
        assert call.read() is None
    call.reply(DONE)  # no effect


def test_a_client_that_leaves_before_its_answer(file: str, desk: Desk) -> None:
    with connected(file) as client:
        client.send(b'{"command": "reload"}\n')
    call, _ = desk.next_request()
    call.reply(DONE)
    assert call.closed
    assert desk.listener.sweep() == []


def test_too_many_at_a_time(file: str, desk: Desk) -> None:
    clients = [connected(file) for _ in range(remote.MAX_CALLS)]
    calls = [desk.listener.accept() for _ in clients]
    assert None not in calls
    with connected(file) as one_more:
        assert desk.listener.accept() is None
        assert "16 other clients" in json.loads(everything(one_more))["message"]
    desk.listener.sweep()
    clients.pop().close()
    last = calls.pop()
    assert last is not None
    assert last.read() is None
    with connected(file):
        assert desk.listener.accept() is not None
    for client in clients:
        client.close()


def test_closing_the_listener_closes_its_calls(file: str) -> None:
    listener = RemoteListener(file)
    with connected(file) as client:
        call = listener.accept()
        assert call is not None
        listener.close()
        assert call.closed
        assert everything(client) == b""
        call.reply(DONE)


def test_nothing_is_passed_on_to_programs(file: str, desk: Desk) -> None:
    with connected(file):
        call = desk.listener.accept()
        assert call is not None
        assert not os.get_inheritable(desk.listener.fileno())
        assert not os.get_inheritable(call.fileno())


def test_a_name_that_is_taken(file: str, desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(VsproxyError, match=rf"lb\.toml: .*process {os.getpid()} \(uid {os.geteuid()}\) an"):
        RemoteListener(file)
    RemoteListener(str(tmp_path / "other.toml")).close()
    desk.close()
    RemoteListener(file).close()


def test_nothing_runs(file: str) -> None:
    with pytest.raises(VsproxyError, match=r"lb\.toml: no vsproxy runs with this file"):
        ask(file, RELOAD, PATIENCE)


def test_time_is_up(file: str, desk: Desk) -> None:
    with pytest.raises(VsproxyError, match=r"not answered within 0\.1 s: the outcome is unknown"):
        ask(file, RELOAD, 0.1)


def test_time_is_up_in_the_queue(file: str, desk: Desk) -> None:
    """One more than `listen` was told fits in."""
    waiting = [connected(file) for _ in range(remote.MAX_CALLS + 1)]
    started = time.monotonic()
    with pytest.raises(VsproxyError, match=r"no request within 0\.1 s, and was not asked"):
        ask(file, RELOAD, 0.1)
    assert time.monotonic() - started >= 0.1
    for sock in waiting:
        sock.close()


@pytest.mark.parametrize("line", [b"", b"yes\n", b"[]\n", b'{"ok": tr'])
def test_an_answer_that_is_none(file: str, asking: Asking, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(remote._name(file))
        server.listen()
        answer = asking(file)
        client, _ = server.accept()
        with client:
            client.recv(100)
            client.send(line)
        with pytest.raises(VsproxyError, match=rf"{os.getpid()} .* no whole answer: the outcome is unknown"):
            answer.result(PATIENCE)


def test_a_relative_path(file: str, desk: Desk, asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(file).parent)
    answer = asking("./lb.toml")
    desk.next_request()[0].reply(DONE)
    assert answer.result(PATIENCE) == DONE


@pytest.mark.parametrize("linked", ["lb.toml", "."])
def test_a_link_that_has_been_turned(tmp_path: Path, asking: Asking, linked: str) -> None:
    """New versions of a configuration are put in place that way: the file itself, or the folder it is in."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "lb.toml").touch()
    (tmp_path / "current").symlink_to(tmp_path / "1" / linked)
    path = str(tmp_path / "current" / ("lb.toml" if linked == "." else ""))
    desk = Desk(path)
    (tmp_path / "next").symlink_to(tmp_path / "2" / linked)
    (tmp_path / "next").rename(tmp_path / "current")
    answer = asking(path)
    desk.next_request()[0].reply(DONE)
    assert answer.result(PATIENCE) == DONE
    desk.close()


def test_a_link_to_the_file_that_it_was_started_with(
    file: str, desk: Desk, asking: Asking, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(file)
    answer = asking(str(tmp_path / "link"))
    desk.next_request()[0].reply(DONE)
    assert answer.result(PATIENCE) == DONE


def test_another_process(file: str) -> None:
    with Supervising(file, DONE) as supervisor:
        assert ask(file, RELOAD, PATIENCE) == DONE
        assert supervisor.asked() == RELOAD
        with pytest.raises(VsproxyError, match=rf"process {supervisor.pid} \(uid \d+\) answers for the file"):
            RemoteListener(file)


def test_a_child_that_outlives_it_does_not_keep_the_name(file: str) -> None:
    with Supervising(file, DONE) as supervisor:
        supervisor.kill()
        os.kill(supervisor.child, 0)
        with pytest.raises(VsproxyError, match="no vsproxy runs"):
            ask(file, RELOAD, PATIENCE)
        RemoteListener(file).close()
