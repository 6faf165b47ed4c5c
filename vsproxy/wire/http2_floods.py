# cython: annotation_typing=False
"""How much an HTTP/2 client may send that is cheap to send and not to take; no I/O.

Control frames have to be justified by requests, by their bodies or by what is sent to the client, framing by content;
what nothing justifies comes out of a burst that is filled again by time. The reasons returned here are those for which
a connection is ended, with ENHANCE_YOUR_CALM; empty: go on.
"""

from __future__ import annotations

MAX_EMPTY = 16
"""Frames in a row that carry nothing and end nothing."""
CONTROL_BURST = 2000
"""Control frames that nothing has to justify. Some weigh more than one: see `WEIGHTS`."""
CONTROL_RATE = 200
"""So many of them come back per second."""
MAX_CREDIT = 100_000
"""Control frames that all content together can justify: what is on its way in the largest windows."""
PER_REQUEST = 8
"""Control frames that a header block justifies: browsers send priorities, updates of them, and window updates."""
PER_DATA = 2
"""Control frames that a DATA frame justifies."""
PER_PIECE = 4
"""Those that a piece of a response does: updates of two windows, and a ping, with which clients of gRPC measure."""
SENT_PER_CONTROL_FRAME = 2048
"""Bytes of response that justify a control frame: credit is given for 4 KiB at a time, by Go, and twice."""
RESET_BURST = 200
"""Streams that a client may reset at once (CVE-2023-44487): twice what it may have open."""
RESET_RATE = 20
"""So many more per second."""
MAX_OVERHEAD = 1 << 20
"""Bytes that frames may have beyond `OVERHEAD_RATIO` times their content (nginx: 8 MiB, and 7 times)."""
OVERHEAD_RATIO = 8
OVERHEAD_RATE = 1024
"""Bytes of that which are forgiven per second, so that a connection may live for weeks on its pings."""
MAX_OVERHEAD_CREDIT = 1 << 24

_PRIORITY, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _PRIORITY_UPDATE = 2, 3, 4, 6, 7, 8, 16
_ACK = 1
_HEAD = 9  # bytes of a frame before its payload

_OTHERS = {_PING: 2, _SETTINGS: 10, _PRIORITY_UPDATE: 1}
WEIGHTS = bytes([_OTHERS.get(kind, 1 if kind < 10 else 3) for kind in range(256)])
"""What a control frame of each type counts: some have to be answered, some mean nothing to anybody here."""
_EMPTY_WEIGHT = 10
FLOODS = {
    _PRIORITY: "priority flood",
    _RST_STREAM: "reset flood",
    _SETTINGS: "settings flood",
    _PING: "ping flood",
    _GOAWAY: "goaway flood",
    _WINDOW_UPDATE: "window update flood",
    _PRIORITY_UPDATE: "priority update flood",
}
"""Reasons by the type of the frame that was one too many."""

_WEIGHTS, _MAX_EMPTY = WEIGHTS, MAX_EMPTY
_BURST, _RATE, _MAX_CREDIT, _PER_REQUEST = CONTROL_BURST, CONTROL_RATE, MAX_CREDIT, PER_REQUEST
_PER_DATA, _PER_PIECE, _SENT_PER_FRAME = PER_DATA, PER_PIECE, SENT_PER_CONTROL_FRAME
_RESET_BURST, _RESET_RATE = RESET_BURST, RESET_RATE
_MAX_OVERHEAD, _RATIO, _OVERHEAD_RATE, _MAX_OVERHEAD_CREDIT = (
    MAX_OVERHEAD,
    OVERHEAD_RATIO,
    OVERHEAD_RATE,
    MAX_OVERHEAD_CREDIT,
)
_ANSWERS = 48  # bytes that the control frames for one piece of a response may take, and a little
_LONG_AGO = 1 << 20  # seconds


class FloodGuard:
    """See the module; of one connection."""

    __slots__ = ("_credit", "_empty", "_overhead", "_resets", "time")

    time: float  # up to which time has passed
    _credit: int  # control frames that may come
    _empty: int
    _overhead: int
    _resets: int  # streams that may be reset

    def __init__(self) -> None:
        self.time = 0.0
        self._credit = _BURST
        self._empty = 0
        self._overhead = 0
        self._resets = _RESET_BURST

    def forgive(self, now: float) -> None:
        """Let time pass up to `now`, in whole seconds."""
        passed = now - self.time
        seconds = int(passed) if passed < _LONG_AGO else _LONG_AGO
        self.time = now
        if self._credit < _BURST:
            self._credit = min(_BURST, self._credit + _RATE * seconds)
        if self._resets < _RESET_BURST:
            self._resets = min(_RESET_BURST, self._resets + _RESET_RATE * seconds)
        if self._overhead > 0:
            self._overhead = max(0, self._overhead - _OVERHEAD_RATE * seconds)

    def sent(self, size: int) -> None:
        """A piece of a response of `size` bytes goes to the client, which may answer with window updates."""
        self._credit += _PER_PIECE + size // _SENT_PER_FRAME
        if self._credit > _MAX_CREDIT:
            self._credit = _MAX_CREDIT
        self._overhead -= _ANSWERS + size
        if self._overhead < -_MAX_OVERHEAD_CREDIT:
            self._overhead = -_MAX_OVERHEAD_CREDIT

    def frame(self, length: int, content: int) -> str:
        """A frame of any type, with so much payload and so much of that for somebody."""
        self._overhead += _HEAD + length - (content * (_RATIO + 1) if content > 0 else 0)
        if self._overhead > _MAX_OVERHEAD:
            return "more framing than content"
        if self._overhead < -_MAX_OVERHEAD_CREDIT:
            self._overhead = -_MAX_OVERHEAD_CREDIT
        return ""

    def something(self) -> None:
        """A frame with content, or an end."""
        self._empty = 0

    def data(self) -> None:
        """A DATA frame with content, or the end of a body."""
        self._empty = 0
        if self._credit < _MAX_CREDIT:
            self._credit += _PER_DATA

    def block(self) -> None:
        """A whole header block."""
        self._credit += _PER_REQUEST
        if self._credit > _MAX_CREDIT:
            self._credit = _MAX_CREDIT

    def control(self, kind: int, flags: int) -> str:
        """A control frame, or one of an unknown type."""
        weights = _WEIGHTS
        self._credit -= 1 if flags & _ACK else weights[kind]
        if self._credit < 0:
            return FLOODS.get(kind, "unknown frame flood")
        if kind == _RST_STREAM:
            self._resets -= 1
            if self._resets < 0:
                return "rapid reset"
        return ""

    def empty(self) -> str:
        """A frame that carries nothing and ends nothing."""
        self._empty += 1
        self._credit -= _EMPTY_WEIGHT
        return "empty frames" if self._empty > _MAX_EMPTY or self._credit < 0 else ""
