"""A configuration that cannot be is refused, with the reason, and nothing changes."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client import Client
from support.family import connect_to_each, held
from support.proxies import ProxyProcess, Settings, eventually, settings
from support.server import Server
from support.stage import Stage


class Scene:
    """A vsproxy in front of one server, a client of each worker, and how all that looked before."""

    def __init__(self, stage: Stage, server: Server, config: Settings) -> None:
        self.stage = stage
        self.server = server
        self.config = config
        self.process: ProxyProcess
        self.clients: list[Client] = []

    async def start(self) -> None:
        self.process = await self.stage.run(self.config)
        self.clients = await connect_to_each(self.stage, self.process)
        await self.assert_unchanged()
        self.family = self.process.family
        self.held = held(self.process)

    async def assert_unchanged(self) -> None:
        """The old routes are served, on connections that are kept."""
        for client in self.clients:
            assert (await client.request(target="/old")).status == 200
            response = await client.request(target="/new")
            assert (response.status, response.fields.has_token("Connection", "close")) == (404, False)

    async def assert_nothing_left(self) -> None:
        """No process, no descriptor and no thread more than there was."""
        await self.assert_unchanged()
        assert self.process.family == self.family
        await eventually(lambda: held(self.process) == self.held, what=f"{self.held} again")


@pytest.fixture
async def scene(stage: Stage) -> Scene:
    server = await stage.server()
    config = settings(server, route={"path": "/old"}, admin={"bind": "127.0.0.1:0"})
    config["proxy"] = {"workers": 2, "shutdown_timeout": "200ms"}
    scene = Scene(stage, server, config)
    await scene.start()
    return scene


def spoilt(config: Settings) -> Settings:
    """Another configuration, with three mistakes."""
    return config | {
        "routes": [{"path": "/new", "pool": "nothing"}],
        "listeners": [*config["listeners"], {"bind": "nowhere", "max_head": "much"}],
    }


MISTAKES = [
    'routes[0].pool: found "nothing"',
    'listeners[1].bind: found "nowhere"',
    'listeners[1].max_head: found "much"',
]


async def test_every_mistake_is_in_the_log_after_a_signal(scene: Scene) -> None:
    process = scene.process
    process.write(spoilt(scene.config))
    process.signal(signal.SIGHUP)
    await process.wait_for_line("not reloaded, the old configuration stays: 3 mistakes")
    for mistake in MISTAKES:
        assert [line for line in process.log if f"{process.file}:" in line and mistake in line]
    await scene.assert_nothing_left()


async def test_every_mistake_is_in_what_the_command_says(scene: Scene) -> None:
    scene.process.write(spoilt(scene.config))
    status, said = await scene.process.reload_command()
    assert status == 2
    assert all(mistake in said for mistake in MISTAKES)
    assert said.splitlines()[-1] == "not reloaded, the old configuration stays: 3 mistakes"
    status, said = await scene.process.reload_command("--json")
    assert status == 2
    outcome = json.loads(said)
    assert (outcome["ok"], len(outcome["problems"])) == (False, 3)
    await scene.assert_nothing_left()


async def test_a_file_that_is_gone(scene: Scene) -> None:
    scene.process.file.unlink()
    answer = await scene.process.reload()
    assert not answer["ok"], answer
    assert str(scene.process.file) in answer["message"]
    await scene.assert_nothing_left()


# Each makes a change impossible, given the listeners, an address that is taken and a directory; and tells
# what is said of it.
Spoil = tuple[Settings, str]


def taken_address(listeners: list[Settings], taken: str, directory: Path) -> Spoil:
    return {"listeners": [*listeners, {"bind": taken}]}, f"cannot listen on {taken}: Address already in use"


def taken_admin_address(listeners: list[Settings], taken: str, directory: Path) -> Spoil:
    return {"admin": {"bind": taken}}, f"cannot listen on {taken}: Address already in use"


def no_directory(listeners: list[Settings], taken: str, directory: Path) -> Spoil:
    path = directory / "gone" / "access.log"
    return {"log": {"access": "json", "access_path": str(path)}}, f"{path}: No such file or directory"


def file_in_the_way(listeners: list[Settings], taken: str, directory: Path) -> Spoil:
    path = directory / "file"
    path.write_text("not a socket")
    return {"listeners": [*listeners, {"bind": f"unix:{path}"}]}, f"cannot listen on unix:{path}"


@contextlib.contextmanager
def a_taken_address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taker:
        yield "{}:{}".format(*taker.getsockname())


@pytest.mark.parametrize("spoil", [taken_address, taken_admin_address, no_directory, file_in_the_way])
async def test_what_cannot_be_opened(scene: Scene, tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    path = tmp_path / "fresh.sock"
    listeners = [*scene.config["listeners"], {"bind": f"unix:{path}"}, {"bind": "127.0.0.1:0"}]
    changed = scene.config | {
        "listeners": listeners,
        "routes": [{"path": "/new", "pool": "fresh"}],
        "pools": {"fresh": scene.config["pools"]["main"]},
        "admin": {"bind": "127.0.0.2:0"},
        "log": {"access": "json", "access_path": str(tmp_path / "fresh.log")},
    }
    with a_taken_address() as taken:
        change, reason = spoil(listeners, taken, tmp_path)
        answer = await scene.process.reload(changed | change)
    assert not answer["ok"]
    assert answer["message"].startswith("not reloaded, the old configuration stays: ")
    assert reason in answer["message"]
    assert not path.exists()
    await scene.process.wait_for_line("not reloaded")
    await scene.assert_nothing_left()


async def test_a_good_file_is_taken_after_a_bad_one(scene: Scene) -> None:
    assert not (await scene.process.reload(spoilt(scene.config)))["ok"]
    answer = await scene.process.reload(scene.config | {"routes": [{"path": "/new", "pool": "main"}]})
    assert answer["ok"], answer
    for client in scene.clients:
        assert (await client.request(target="/new")).status == 200
