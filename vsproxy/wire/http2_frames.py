# cython: annotation_typing=False
"""stub"""

from __future__ import annotations


class FrameCheck:
    """stub"""

    __slots__ = ("error", "reason")

    def __init__(self) -> None:
        self.error = 0
        self.reason = ""

    def check(self, data: bytes, now: float) -> int:
        """stub"""
        return len(data)
