"""A page with a hundred assets that tells its server what it got: the server's part, and the page itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from typing import Any

from support.http import Request
from support.server import Conversation

#: By kind: a script says its number, an image is as wide as its number and 1, data is hashed.
SCRIPTS, IMAGES, DATA = range(25), range(25), range(50)
#: What the page uploads, in bytes: more than a stream's first window.
UPLOAD = 3_000_000

PAGE = """<!doctype html>
<title>assets</title>
<script>window.said = [];</script>
%(scripts)s
%(images)s
<script>
const hex = (data) => Array.from(new Uint8Array(data), (byte) => byte.toString(16).padStart(2, "0")).join("");
const digest = async (data) => hex(await crypto.subtle.digest("SHA-256", data));
const fetched = async (path) => digest(await (await fetch(path)).arrayBuffer());

async function upload() {
    const body = new Uint8Array(%(upload)d).map((_, at) => at %% 251);
    const response = await fetch("/upload", {method: "POST", body});
    return [await digest(body), await response.text()];
}

function echo(messages) {
    return new Promise((resolve, reject) => {
        const got = [];
        const socket = new WebSocket(`wss://${location.host}/socket`);
        socket.onopen = () => messages.forEach((message) => socket.send(message));
        socket.onerror = () => reject(new Error("the WebSocket failed"));
        socket.onmessage = (event) => {
            got.push(event.data);
            if (got.length === messages.length) socket.close(1000, "enough");
        };
        socket.onclose = (event) => resolve({got, code: event.code, clean: event.wasClean});
    });
}

async function report() {
    const data = await Promise.all([...Array(%(data)d).keys()].map((number) => fetched(`/data/${number}`)));
    const sent = await upload();
    const socket = await echo(["", "text \\u2713", "x".repeat(200000)]);
    const entries = [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")];
    return {
        said: window.said,
        widths: Array.from(document.images, (image) => image.naturalWidth),
        data,
        sent,
        socket,
        protocols: Object.fromEntries(entries.map((entry) => [new URL(entry.name).pathname, entry.nextHopProtocol])),
    };
}

window.onload = () => report()
    .catch((error) => ({error: String(error)}))
    .then((found) => fetch("/report", {method: "POST", body: JSON.stringify(found)}));
</script>
"""


def asset(number: int) -> bytes:
    """The data of that number: nothing to 400 kB that a wrong order or a lost byte changes."""
    return random.Random(number).randbytes(number**3 * 3)


class Page:
    """A script for `Server`: gives the page and its assets out, and keeps what the page reports."""

    def __init__(self) -> None:
        self._reported: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        kind, _, number = request.target[1:].partition("/")
        if kind == "report":
            await peer.respond()
            self._reported.set_result(json.loads(request.body))
        elif kind == "upload":
            await peer.respond(hashlib.sha256(request.body).hexdigest().encode())
        else:
            media, body = self._content(kind, number)
            # Nothing may come from a cache: a hundred requests are what this is about.
            await peer.respond(body, fields=[("Content-Type", media), ("Cache-Control", "no-store")])

    def _content(self, kind: str, number: str) -> tuple[str, bytes]:
        if kind == "script":
            return "text/javascript", f"window.said.push({number});".encode()
        if kind == "image":
            size = int(number) + 1
            return "image/svg+xml", f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="1"/>'.encode()
        if kind == "data":
            return "application/octet-stream", asset(int(number))
        return "text/html; charset=utf-8", self._page().encode()

    def _page(self) -> str:
        return PAGE % {
            "scripts": "\n".join(f'<script src="/script/{number}"></script>' for number in SCRIPTS),
            "images": "\n".join(f'<img src="/image/{number}">' for number in IMAGES),
            "data": len(DATA),
            "upload": UPLOAD,
        }

    async def report(self, seconds: float = 90.0) -> dict[str, Any]:
        """What the page has found, awaited."""
        async with asyncio.timeout(seconds):
            return await self._reported
