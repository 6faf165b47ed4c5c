"""CPU time per proxied request, vsproxy beside nginx in one run: `python bench/cpu_per_request.py`.

Static nginx servers and wrk (64 keepalive connections, a browser-sized head) on core 1, the proxy on core 0, the
proxies in turn. CPU time is the scheduler's, in nanoseconds. Needs Linux with two cores, nginx and wrk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
PROXY_CORE, LOAD_CORE = "0", "1"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def fill(name: str, directory: Path, values: dict[str, object]) -> Path:
    """A committed configuration with this run's ports and paths."""
    text = (PEERS / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    path = directory / name
    path.write_text(text)
    return path


def start(core: str, *command: str) -> subprocess.Popen[bytes]:
    log = open(os.devnull, "wb")
    return subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(grandchild for child in children for grandchild in family(int(child)))]


def cpu_ns(pid: int) -> int:
    """Of all threads: the file of a process is about its first thread alone."""
    threads = (thread for one in family(pid) for thread in Path(f"/proc/{one}/task").iterdir())
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def load(port: int, seconds: int) -> int:
    """Requests answered; an error ends the run."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", "-c64", f"-d{seconds}"]
    command += ["-s", str(PEERS / "browser.lua"), f"http://127.0.0.1:{port}/"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(output)
    found = re.search(r"(\d+) requests in", output)
    assert found is not None, output
    return int(found.group(1))


def measure(rounds: int, seconds: int, python: str) -> dict[str, list[float]]:
    directory = Path(tempfile.mkdtemp())
    ports = {name: free_port() for name in ("SERVER1", "SERVER2", "NGINX", "VSPROXY")}
    values = {**ports, "DIR": directory}
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    processes = [start(LOAD_CORE, nginx, "-c", str(fill("servers.conf", directory, values)))]
    try:
        wait_for(ports["SERVER1"])
        peers = {
            "nginx": (ports["NGINX"], start(PROXY_CORE, nginx, "-c", str(fill("nginx.conf", directory, values)))),
            "vsproxy": (
                ports["VSPROXY"],
                start(PROXY_CORE, python, "-P", "-m", "vsproxy", "--config", str(fill("lb.toml", directory, values))),
            ),
        }
        processes += [process for _, process in peers.values()]
        results: dict[str, list[float]] = {name: [] for name in peers}
        for port, _ in peers.values():
            wait_for(port)
            load(port, 1)
        for _ in range(rounds):
            for name, (port, process) in peers.items():
                before = cpu_ns(process.pid)
                requests = load(port, seconds)
                results[name].append((cpu_ns(process.pid) - before) / requests / 1000)
        return results
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.wait()
        shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--python", default=sys.executable, help="interpreter with vsproxy installed")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = measure(args.rounds, args.seconds, args.python)
    if args.json:
        print(json.dumps(results))
        return
    command = [args.python, "-P", "-m", "vsproxy", "--version"]
    print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    ratios = [ours / theirs for ours, theirs in zip(results["vsproxy"], results["nginx"], strict=True)]
    for name, figures in results.items():
        print(f"{name:8} {sorted(figures)[len(figures) // 2]:6.2f} us CPU per request (median of {len(figures)})")
    print(f"ratio    {sorted(ratios)[len(ratios) // 2]:6.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
