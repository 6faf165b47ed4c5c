"""Runs a proxy in the foreground until a signal ends it: what `vsproxy --config` does.

SIGTERM and SIGINT finish what is in flight and stop, a second one stops at once; SIGHUP reads the file
again; SIGUSR1 reopens the log files.
"""

from __future__ import annotations

import logging
import sys

from vsproxy.config.model import Config
from vsproxy.cpus import usable_cpus
from vsproxy.descriptors import raise_limit
from vsproxy.messages import MessageLog
from vsproxy.supervisor import Supervisor


def run_foreground(config: Config, path: str) -> int:
    """Serve `config`, which was read from `path`, until told to stop; returns the exit status."""
    messages = MessageLog(config.log.level, config.log.path, "supervisor")
    try:
        messages.start()
    except OSError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    raise_limit()
    workers = usable_cpus() if config.proxy.workers == "auto" else config.proxy.workers
    try:
        return Supervisor(config, path, workers, messages).run()
    except OSError as error:
        # Of what is needed before anything else: shared memory, descriptors to wake each other.
        logging.getLogger("vsproxy").error("cannot start: %s", error)
        return 1
    finally:
        messages.close()
