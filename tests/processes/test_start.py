"""A start: how long it takes, what it costs, and how one ends that cannot be."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from support.family import connect_to, pss
from support.proxies import Settings, environment, settings, write_config
from support.server import Server
from support.stage import Stage

SERVERS, ROUTES = 64, 1000
MOST_MEMORY = 40 << 20
MOST_TIME = 1.0
#: Seldom is the machine that runs the tests idle at the first.
STARTS = 5


def large(servers: list[Server]) -> Settings:
    """A pool of `SERVERS` and a thousand routes to it."""
    config = settings(*servers, pool={"health": {"inter": "1s", "type": "tcp"}})
    config["routes"] = [
        {"host": f"host{number}.example", "path": "/", "pool": "main"} for number in range(ROUTES - 1)
    ]
    config["routes"].append({"path": "/", "pool": "main"})
    config["proxy"] = {"workers": 2, "shutdown_timeout": "200ms"}
    return config


async def run_to_end(config: Settings, directory: Path) -> tuple[int, str]:
    """Start the command and wait for its end; its exit status and what it said."""
    file = directory / "lb.toml"
    write_config(file, config)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "vsproxy", "--config", str(file)),
        env=environment(),
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(20):
            _, said = await process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_large_configuration_is_ready_in_a_second_and_a_worker_is_small(stage: Stage) -> None:
    config = large([await stage.server() for _ in range(SERVERS)])
    times, busy = [], []
    for start in range(STARTS):
        began = time.monotonic()
        process = await stage.run(config)
        # All else that makes it wait is a matter of milliseconds.
        times.append(time.monotonic() - began - waited(process.pid))
        busy.append(sum(map(cpu_time, process.family)))
        if times[-1] < MOST_TIME or start == STARTS - 1:
            break
        process.signal(signal.SIGTERM)
        await process.wait()
    for worker in process.workers:
        client = await connect_to(stage, process, worker)
        for number in range(2 * SERVERS):
            assert (await client.request(host=f"host{number}.example")).status == 200
    sizes = {"supervisor": pss(process.pid), "control": pss(process.control)}
    sizes |= {f"worker {number}": pss(pid) for number, pid in enumerate(process.workers)}
    print(f"ready after {_list(times)} s, of which processors worked {_list(busy)} s")
    print("PSS: " + ", ".join(f"{name} {size / (1 << 20):.1f} MiB" for name, size in sizes.items()))
    assert max(sizes["worker 0"], sizes["worker 1"]) <= MOST_MEMORY
    assert min(times) < MOST_TIME


def waited(pid: int) -> float:
    """Seconds for which a process could have run and had no processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def cpu_time(pid: int) -> float:
    """Seconds of user and system time that a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _list(seconds: list[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in seconds)


async def test_a_worker_that_cannot_start_ends_it_all_with_the_reason(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "access.log"
    config = settings("127.0.0.1:1", log={"access": "json", "access_path": str(missing)})
    config["proxy"]["workers"] = 2
    status, said = await run_to_end(config, tmp_path)
    assert status == 1
    assert f"worker 0 cannot start: {missing}: No such file or directory" in said
    assert " ready" not in said
    assert "Traceback" not in said


async def test_an_admin_port_that_is_taken_ends_the_start_before_anybody_is_let_in(
    stage: Stage, tmp_path: Path
) -> None:
    taken = await stage.server()
    config = settings("127.0.0.1:1", admin={"bind": taken.address})
    status, said = await run_to_end(config, tmp_path)
    assert status == 1
    assert f"cannot start: cannot listen on {taken.address}: Address already in use" in said
    assert taken.connections == 0
