"""`python -m storm.against_nginx`: nginx in the same place, under the same servers, clients and reloads.

Nothing is killed. Clients repeat nothing: a request on a connection that nginx closes at that moment has
failed, though a browser would send it again. Idle connections that end without notice are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from storm import sockets
from storm.http_client import IDLE
from storm.ledger import Ledger
from storm.load import Load
from storm.plan import GOOD_BEFORE_BAD, WORKERS, Layout, State, good, host_of
from storm.run import make_layout, taken_port
from storm.scene import Scene
from support.nginx import NGINX
from support.ports import Ports
from support.proxies import eventually

CONFIG = """
daemon off;
worker_processes {workers};
pid {directory}/proxy.pid;
error_log {directory}/proxy.log info;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    client_max_body_size 0;
    keepalive_requests 10000;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_set_header Host $host;
    map $http_upgrade $connection_field {{ default upgrade; '' ''; }}
    proxy_set_header Connection $connection_field;
    proxy_set_header Upgrade $http_upgrade;
    upstream main {{ {pages} keepalive 32; }}
    upstream websockets {{ {websockets} }}
    upstream files {{ {files} keepalive 32; }}
    server {{
        listen 127.0.0.1:{main} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
        {second}
        ssl_certificate {cert};
        ssl_certificate_key {key};
        location / {{ proxy_pass http://main; }}
        location /api/ws {{ proxy_pass http://websockets; }}
        location /files {{ proxy_pass http://files; }}
        location /whoami {{ proxy_set_header Host {host}; proxy_pass http://main; }}
    }}
}}
"""


def configuration(layout: Layout, state: State, directory: Path) -> str:
    """What `Layout.settings` says, for nginx."""
    places = layout.fleet.places[: state.servers]
    pages = [f"127.0.0.1:{place.port}" for place in places]
    nginx = [layout.fleet.nginx.address] if layout.fleet.nginx else []
    certificates = layout.certificates[state.certificate]
    least = "least_conn; " if state.balance == "least_conn" else ""
    return CONFIG.format(
        workers=WORKERS,
        directory=directory,
        pages=least + servers(pages),
        websockets=servers([f"127.0.0.1:{place.websocket_port}" for place in places]),
        files="least_conn; " + servers([*pages[:3], *nginx]),
        main=layout.main,
        tls=layout.tls,
        second=f"listen 127.0.0.1:{layout.second} backlog=4096;" if state.second else "",
        cert=certificates.cert,
        key=certificates.key,
        host=host_of(state.generation),
    )


def servers(addresses: list[str]) -> str:
    """The `server` lines of an upstream."""
    return " ".join(f"server {address};" for address in addresses)


async def nginx(*arguments: str) -> asyncio.subprocess.Process:
    """Start nginx's command; what it says before it has read the configuration is dropped."""
    assert NGINX is not None, "nginx is not installed"
    silence = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(NGINX, "-e", "stderr", *arguments, stderr=silence)


@contextlib.asynccontextmanager
async def proxying(layout: Layout, file: Path) -> AsyncIterator[None]:
    """nginx as the proxy, accepting."""
    file.write_text(configuration(layout, State(), file.parent))
    process = await nginx("-c", str(file))
    try:
        await eventually(lambda: sockets.accepts(layout.main), 10.0, what="nginx accepts")
        yield
    finally:
        process.terminate()
        await process.wait()


async def reload(file: Path, text: str, expected: int) -> None:
    """`nginx -s reload`, which says whether the file is good, and not when it is in force."""
    file.write_text(text)
    process = await nginx("-c", str(file), "-s", "reload")
    status = await process.wait()
    assert status == expected, f"nginx -s reload: {status}"


async def reloads(layout: Layout, load: Load, file: Path, count: int, period: float) -> None:
    """The reloads of a storm; before the second listener goes, its clients open nothing more at it."""
    plan, torn = good(State()), "http { server {"
    for number in range(1, count + 1):
        _, state = next(plan)
        if not state.second:
            load.second.serving.clear()
        await reload(file, configuration(layout, state, file.parent), 0)
        await asyncio.sleep(period)
        if state.second:
            load.second.serving.set()
        if number % GOOD_BEFORE_BAD == 0:
            await reload(file, torn, 1)
            await asyncio.sleep(period)


async def blow(directory: Path, rounds: int, only_requests: bool) -> Ledger:
    """The storm over nginx."""
    scene = Scene()
    (directory / "peer").mkdir()
    with Ports() as ports, taken_port() as taken:
        layout = make_layout(directory, ports, taken)
        file = directory / "peer" / "proxy.conf"
        async with layout.fleet.running(), proxying(layout, file), asyncio.TaskGroup() as tasks:
            load = Load(scene, layout)
            for client in load.requests() if only_requests else load.clients():
                tasks.create_task(client.run())
            await reloads(layout, load, file, 20 * rounds, 1.0)
            scene.end(load.listeners)
    return scene.ledger


def main() -> None:
    """Blow and tell."""
    parser = argparse.ArgumentParser(prog="storm.against_nginx", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of 20 good and 5 bad reloads")
    parser.add_argument("--only-requests", action="store_true", help="no transfers and WebSockets")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        ledger = uvloop.run(blow(Path(directory), arguments.rounds, arguments.only_requests))
    print(report(ledger, time.monotonic() - began))


def report(ledger: Ledger, seconds: float) -> str:
    """What failed, by kind and cause."""
    idle = sum(failure.cause == IDLE for failure in ledger.failures)
    causes = Counter(f"{failure.kind}: {failure.cause}" for failure in ledger.failures)
    return "\n".join(
        [
            f"{ledger.answered.total()} answered in {seconds:.0f} s",
            f"{len(ledger.failures) - idle} failed, {idle} idle connections ended without notice:",
            *(f"  {count:5} {cause}" for cause, count in sorted(causes.items())),
        ]
    )


if __name__ == "__main__":
    main()
