"""A supervisor that does nothing but answer commands; run as a program by `Supervising`."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import vsproxy
from vsproxy.remote import RemoteCall, RemoteListener, ask

SWEEP = 0.05


class Desk:
    """The part of a supervisor's loop that answers commands."""

    def __init__(self, path: str) -> None:
        self.listener = RemoteListener(path)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)

    def next_request(self) -> tuple[RemoteCall, dict[str, object]]:
        """The next request that a client has sent whole."""
        while True:
            for key, _ in self.selector.select(SWEEP):
                if key.fileobj is self.listener:
                    self._accept()
                elif (request := self._read(key.fileobj)) is not None:
                    return request
            self.sweep()

    def sweep(self) -> None:
        """What a supervisor does from time to time."""
        for call in self.listener.sweep():
            if call in self.selector.get_map():
                self.selector.unregister(call)

    def close(self) -> None:
        """Close all descriptors."""
        self.selector.close()
        self.listener.close()

    def _accept(self) -> None:
        call = self.listener.accept()
        if call is not None:
            self.selector.register(call, selectors.EVENT_READ)

    def _read(self, call: object) -> tuple[RemoteCall, dict[str, object]] | None:
        assert isinstance(call, RemoteCall)
        request = call.read()
        if request is not None or call.closed:
            self.selector.unregister(call)
        return None if request is None else (call, request)


class Supervising:
    """The process, as a context: answers every request with `answer`, as `uid`, below `root`.

    It has a child that outlives it, like a worker.
    """

    def __init__(
        self, path: str | Path, answer: dict[str, object], uid: int = -1, root: str | Path = ""
    ) -> None:
        given = json.dumps({"path": str(path), "answer": answer, "uid": uid, "root": str(root)})
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "serve", given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=program_environment(),
            text=True,
        )
        assert self._process.stdout
        self.pid = self._process.pid
        self.child = int(self._process.stdout.readline())

    def asked(self) -> object:
        """The next request that arrived."""
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL to the supervisor alone."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        # The child ends when this closes its standard input.
        self._process.communicate()


def asked_as(uid: int, path: str | Path, request: dict[str, object]) -> dict[str, object]:
    """What `ask` returns to, or as `error` raises in, a process of `uid`."""
    given = json.dumps({"path": str(path), "request": request, "uid": uid})
    result = subprocess.run(
        [sys.executable, "-P", __file__, "ask", given],
        stdout=subprocess.PIPE,
        env=program_environment(),
        check=True,
        timeout=30,
    )
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


def program_environment() -> dict[str, str]:
    """For programs that import the vsproxy that is being tested."""
    path = [str(Path(vsproxy.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def become(uid: int) -> None:
    """Only now, since others may not be able to read the modules."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def serve(given: dict[str, object]) -> None:
    """Answer until killed."""
    if given["root"]:
        os.chroot(str(given["root"]))
        os.chdir("/")
    become(int(str(given["uid"])))
    desk = Desk(str(given["path"]))
    if not os.fork():
        desk.close()
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    while True:
        call, request = desk.next_request()
        print(json.dumps(request), flush=True)
        answer = given["answer"]
        assert isinstance(answer, dict)
        call.reply(answer)


def main(role: str, text: str) -> None:
    """The program."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    given = json.loads(text)
    if role == "serve":
        serve(given)
        return
    become(given["uid"])
    try:
        answer = ask(given["path"], given["request"], 10)
    except vsproxy.VsproxyError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
