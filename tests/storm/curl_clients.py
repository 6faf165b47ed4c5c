"""curl, the client that everybody has: now two GETs on one keepalive connection, now a POST."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from storm.broken import Broken
from storm.content import content
from storm.http_client import Listener, Request
from storm.http_response import PATIENCE
from storm.ledger import Wire
from storm.scene import Scene

SIZE = 50_000


def requests(scene: Scene, kind: str) -> list[Request]:
    """What the next run of curl asks for; `body` is what has to come back, and for a POST what is sent."""
    name = scene.name(kind)
    seeds = [random.randrange(50) for _ in range(2)]
    if random.random() < 0.5:
        return [Request(f"/echo?x={name}", method="POST", exchange=name, body=content(seeds[0], SIZE))]
    return [
        Request(f"/small/{seed}-{SIZE}?x={name}", exchange=name, body=content(seed, SIZE)) for seed in seeds
    ]


@dataclass(slots=True)
class CurlClient:
    """Runs curl again and again, `pause` seconds apart or so."""

    kind: str
    scene: Scene
    listener: Listener
    pause: float

    async def run(self) -> None:
        """Until the storm stops."""
        with tempfile.TemporaryDirectory() as directory:
            while await self.scene.serving(self.listener):
                await self._run_curl(Path(directory), requests(self.scene, self.kind))
                await self.scene.pause(random.uniform(0.5, 1.5) * self.pause)

    async def _run_curl(self, directory: Path, asked: list[Request]) -> None:
        arguments = ["-sS", "--max-time", f"{PATIENCE:g}", "-w", "%{local_port} %{http_code}\n"]
        for number, request in enumerate(asked):
            url = f"http://127.0.0.1:{self.listener.port}{request.target}"
            arguments += [url, "-o", str(directory / f"{number}")]
            (directory / f"{number}").unlink(missing_ok=True)
        if asked[0].method == "POST":
            (directory / "sent").write_bytes(asked[0].body)
            arguments += ["--data-binary", f"@{directory / 'sent'}"]
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            "curl", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        reported, errors = await process.communicate()
        self.scene.ledger.connections += 1
        for number, (request, line) in enumerate(zip(asked, reported.decode().splitlines(), strict=True)):
            file = directory / f"{number}"
            body = file.read_bytes() if file.exists() else b""
            port, status = line.split()
            wire = Wire(self.listener.port, int(port), began)
            try:
                check(request, status, body, process.returncode, errors)
            except Broken as broken:
                self.scene.fail(self.kind, began, wire, broken, request.method, request.exchange)
            else:
                sent = len(request.body) if request.method == "POST" else 0
                self.scene.ledger.answer(self.kind, began, "", sent, len(request.body))


def check(request: Request, status: str, body: bytes, exit_status: int | None, errors: bytes) -> None:
    """Judge one transfer by what curl reports and has written. Raises `Broken`."""
    detail = f"curl exits {exit_status}: {errors.decode(errors='replace').strip()}"
    if status == "000":
        raise Broken("unanswered", detail)
    if status != "200":
        raise Broken(f"status {status}", detail)
    if body != request.body:
        raise Broken("truncated" if exit_status else "corrupt", detail, visible=bool(exit_status))
