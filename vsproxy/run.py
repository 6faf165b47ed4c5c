"""Runs a proxy in the foreground until a signal ends it: what `vsproxy --config` does.

SIGTERM and SIGINT finish what is in flight and stop, a second one stops at once; SIGHUP reads the file
again; SIGUSR1 reopens the log files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import uvloop

from vsproxy.config.check import load_checked
from vsproxy.config.model import Config
from vsproxy.descriptors import raise_limit
from vsproxy.errors import ConfigError, VsproxyError
from vsproxy.proxy import Proxy
from vsproxy.version import version_line

_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"

log = logging.getLogger("vsproxy")


def run_foreground(config: Config, path: str) -> int:
    """Serve `config`, which was read from `path`, until told to stop; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=config.log.level.upper(), format=_LOG_FORMAT)
    raise_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Foreground(config, path).serve())


class Foreground:
    """One proxy, the file it came from, and the signals that steer it."""

    def __init__(self, config: Config, path: str) -> None:
        self._config = config
        self._path = path
        self._proxy = Proxy(config)
        self._stop = asyncio.Event()
        self._reload_wanted = asyncio.Event()

    async def serve(self) -> int:
        """Start, serve until the first SIGTERM or SIGINT, finish what is in flight; the exit status."""
        self._watch_signals()
        try:
            await self._proxy.start()
        except (OSError, VsproxyError) as error:
            log.error("cannot start: %s", error)
            await self._proxy.close()
            return 1
        self._announce()
        reloads = asyncio.create_task(self._reload_when_wanted())
        try:
            await self._stop.wait()
            log.info("stopping: exchanges in flight have %gs", self._config.proxy.shutdown_timeout)
        finally:
            reloads.cancel()
            await asyncio.gather(reloads, return_exceptions=True)
            await self._proxy.close()
        log.info("stopped")
        return 0

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        loop.add_signal_handler(signal.SIGUSR1, self._proxy.reopen_logs)

    def _on_stop(self, number: int) -> None:
        if self._stop.is_set():
            # Whoever asks twice does not want to wait for anything, not even for the loop to unwind.
            os._exit(128 + number)
        self._stop.set()

    def _announce(self) -> None:
        log.info("%s, pid %d", version_line(), os.getpid())
        workers = self._config.proxy.workers
        if workers != "auto" and workers > 1:
            log.info("workers = %d, but this version serves from one process", workers)
        for listener, address in zip(self._config.listeners, self._proxy.addresses, strict=True):
            log.info("listening on %s", _url(address, listener.tls is not None))
        if self._proxy.admin_address is not None:
            log.info("admin on %s", _url(self._proxy.admin_address, False))
        log.info("ready")

    async def _reload_when_wanted(self) -> None:
        """One reload after the other; signals that arrive during one are answered by one more."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            await self._reload()

    async def _reload(self) -> None:
        try:
            config = await asyncio.to_thread(load_checked, self._path, os.environ)
            await self._proxy.reload(config)
        except ConfigError as error:
            for problem in error.problems:
                log.error("%s", problem)
            log.error("not reloaded, the old configuration stays: %d mistakes", len(error.problems))
        except (OSError, VsproxyError) as error:
            log.error("not reloaded, the old configuration stays: %s", error)
        else:
            self._config = config
            log.info("reloaded %s", self._path)


def _url(address: str, tls: bool) -> str:
    if address.startswith("unix:"):
        return f"{address} (https)" if tls else address
    return f"{'https' if tls else 'http'}://{address}"
