"""Who may command a supervisor, and whom a client believes; with real users if this is root."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.supervising import Desk, Supervising, asked_as
from vsproxy import VsproxyError, remote
from vsproxy.remote import Peer, RemoteListener, ask

RELOAD: dict[str, object] = {"command": "reload"}
DONE: dict[str, object] = {"ok": True, "message": "reloaded"}
NOBODY = pwd.getpwnam("nobody").pw_uid
PATIENCE = 20.0

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes on the identity of other users")


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever is at the other end is said to be a user that is neither root nor this one."""
    monkeypatch.setattr(remote.Peer, "of", lambda sock: Peer(4711, 54321))
    yield


def test_a_stranger_may_not_ask(file: str, strangers: None) -> None:
    desk = Desk(file)
    with remote._connected(file, PATIENCE) as client:
        client.send(b'{"command": "reload"}\n')
        assert desk.listener.accept() is None
        answer = json.loads(client.recv(1 << 16))
        assert answer["ok"] is False
        assert answer["message"].startswith(f"only root and uid {os.geteuid()} may ")
        assert desk.listener.sweep() == []
    desk.close()


def test_a_stranger_is_not_asked(file: str, strangers: None) -> None:
    desk = Desk(file)
    with pytest.raises(VsproxyError, match=r"process 4711 \(uid 54321\) .*was not asked.* as uid 54321"):
        ask(file, RELOAD, PATIENCE)
    desk.close()


def test_the_name_of_a_stranger_is_not_taken_over(file: str, strangers: None) -> None:
    desk = Desk(file)
    with pytest.raises(VsproxyError, match=r"process 4711 \(uid 54321\) answers for the file"):
        RemoteListener(file)
    desk.close()


@needs_root
def test_nobody_may_not_ask_roots_supervisor(file: str) -> None:
    with Supervising(file, DONE):
        answer = asked_as(NOBODY, file, RELOAD)
        assert answer["ok"] is False
        assert str(answer["message"]).startswith("only root and uid 0 may ")
        assert asked_as(0, file, RELOAD) == DONE


@needs_root
def test_others_may_not_ask_nobodys_supervisor(file: str) -> None:
    with Supervising(file, DONE, uid=NOBODY):
        assert "was not asked" in str(asked_as(NOBODY - 1, file, RELOAD)["error"])
        assert asked_as(NOBODY, file, RELOAD) == DONE


@needs_root
def test_only_root_believes_the_owner_of_the_file() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # pytest's folders are root's alone.
        os.chmod(folder, 0o755)
        file = Path(folder, "lb.toml")
        file.touch()
        os.chown(file, NOBODY, -1)
        with Supervising(file, DONE, uid=NOBODY):
            assert "was not asked" in str(asked_as(NOBODY - 1, file, RELOAD)["error"])
            assert asked_as(0, file, RELOAD) == DONE


@needs_root
def test_root_does_not_believe_anybody(file: str) -> None:
    """Whoever is first can have the name, when nothing runs with the file."""
    with Supervising(file, DONE, uid=NOBODY) as supervisor:
        with pytest.raises(VsproxyError, match=rf"process {supervisor.pid} \(uid {NOBODY}\) .*was not asked"):
            ask(file, RELOAD, PATIENCE)
        os.chown(file, NOBODY, -1)
        assert ask(file, {"command": "status"}, PATIENCE) == DONE
        assert supervisor.asked() == {"command": "status"}


@needs_root
def test_root_believes_the_account_of_vsproxy(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ACCOUNT", "nobody")
    with Supervising(file, DONE, uid=NOBODY):
        assert ask(file, RELOAD, PATIENCE) == DONE


@needs_root
def test_the_same_path_below_another_root_directory(file: str, tmp_path: Path) -> None:
    """A container on the host's network: its abstract sockets are the host's, its files are not."""
    inside = tmp_path / file.lstrip("/")
    inside.parent.mkdir(parents=True)
    with Supervising(file, DONE, root=tmp_path):
        with pytest.raises(VsproxyError, match="no vsproxy runs"):
            ask(file, RELOAD, PATIENCE)
        RemoteListener(file).close()
