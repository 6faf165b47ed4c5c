"""The one exception of the storm's clients."""

from __future__ import annotations


class Broken(Exception):
    """What went wrong with an exchange or a connection; the arguments are those of `Failure`."""

    def __init__(self, cause: str, detail: object = "", *, server: str = "", visible: bool = True) -> None:
        super().__init__(cause, str(detail))
        self.cause = cause
        self.detail = str(detail) or type(detail).__name__
        self.server = server
        self.visible = visible
