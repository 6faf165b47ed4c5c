"""Commands to the running supervisor, as they come in through its selector."""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable

from vsproxy.errors import VsproxyError
from vsproxy.remote import RemoteCall, RemoteListener

#: Seconds until it is tried again to be there for commands: a predecessor may hold the name while it stops.
RETRY = 5.0

log = logging.getLogger("vsproxy")


class Commands:
    """Listens for commands about the file at `path`; `on_command(call, name)` has to answer each."""

    def __init__(
        self, path: str, selector: selectors.BaseSelector, on_command: Callable[[RemoteCall, str], None]
    ) -> None:
        self._path = path
        self._selector = selector
        self._on_command = on_command
        self._listener: RemoteListener | None = None
        # Calls whose request is not complete, with the descriptor that the selector watches.
        self._reading: dict[RemoteCall, int] = {}
        self._due = 0.0

    def open(self) -> None:
        """Begin to listen; what stands in the way is said once, and tried again."""
        try:
            self._listener = RemoteListener(self._path)
        except VsproxyError as error:
            if not self._due:
                log.warning("%s", error)
            self._due = time.monotonic() + RETRY
        else:
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_call)

    def look_after(self) -> None:
        """To be called about once a second."""
        if self._listener is not None:
            for late in self._listener.sweep():
                self._forget(late)
        elif time.monotonic() >= self._due:
            self.open()

    def close(self) -> None:
        """Give up the descriptors of this process; in a child, that ends nothing for the parent."""
        if self._listener is not None:
            self._listener.close()

    def _on_call(self) -> None:
        call = self._listener.accept() if self._listener is not None else None
        if call is not None:
            self._reading[call] = call.fileno()
            self._selector.register(call, selectors.EVENT_READ, lambda: self._on_request(call))

    def _on_request(self, call: RemoteCall) -> None:
        request = call.read()
        if request is None and not call.closed:
            return
        self._forget(call)
        if request is not None:
            self._on_command(call, str(request["command"]))

    def _forget(self, call: RemoteCall) -> None:
        descriptor = self._reading.pop(call, None)
        if descriptor is not None:
            self._selector.unregister(descriptor)
