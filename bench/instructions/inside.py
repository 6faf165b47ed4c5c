"""Runs inside valgrind: each workload in a fork of its own, with a mark before and after what is counted.

What a request costs depends a little on where its objects come to lie: when the last free block of a page is taken,
and given back, at every request, the allocator has some more to do. That is chance, of one percent or so, and one
that the next change of anything decides anew; so a workload is counted several times, with other objects in the way.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback
from itertools import repeat

from bench.instructions.workload import Step, Workload

#: Runs that are not counted: caches fill, Python's interpreter learns the types it meets.
WARM_UP = 100
#: How often each workload is counted.
LAYOUTS = 4
# Blocks of each size up to 512 bytes, which is what Python's own allocator deals in, that are taken before each count.
_BLOCKS = 37


def main(args: list[str]) -> None:
    """`args` are the number of requests and NAME=MODULE:FUNCTION for each workload; prints {name: process id}."""
    requests = int(args[0])
    workloads = [Workload(*argument.split("=")) for argument in args[1:]]
    factories = {workload.name: load(workload) for workload in workloads}
    # As in a long run: what came with the start is not looked at by each collection.
    gc.collect()
    gc.freeze()
    processes = {}
    for name, factory in factories.items():
        # A fork, so that no workload sees what another has left in memory.
        pid = os.fork()
        if not pid:
            run_and_leave(factory, requests)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"workload {name} failed")
        processes[name] = pid
    print(json.dumps(processes))


def load(workload: Workload):  # type: ignore[no-untyped-def]
    """The function that `factory` names."""
    module, _, function = workload.factory.partition(":")
    return getattr(importlib.import_module(module), function)


def run_and_leave(factory, requests: int) -> None:  # type: ignore[no-untyped-def]
    """What the forked process does."""
    status = 1
    try:
        step: Step = factory()
        run(step, WARM_UP)
        in_the_way = []
        for _ in range(LAYOUTS):
            in_the_way += [bytearray(size) for size in range(8, 512, 16) for _ in range(_BLOCKS)]
            os.sched_yield()
            run(step, requests)
            os.sched_yield()
            run(step, 2 * requests)
            os.sched_yield()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def run(step: Step, times: int) -> None:
    """`step`, that often. Not by `range`, whose numbers above 256 are made anew and so cost more."""
    for _ in repeat(None, times):
        step()
