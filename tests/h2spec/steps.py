"""What cases are made of: requests to send, and things to wait for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from h2spec.dialog import Dialog, Skipped, Wait
from support import h2_frames as h2

Step = bytes | Wait | Callable[[Dialog], bytes]


@dataclass(frozen=True)
class Case:
    """One case: `section` and `number` as h2spec has them, steps in their order; the last one is a Wait."""

    section: str
    number: int
    title: str
    steps: tuple[Step, ...]
    handshake: bool = True
    needs_body: int = 0
    beyond: bool = False

    @property
    def id(self) -> str:
        """As `http2/5.1/3`."""
        return f"{self.section}/{self.number}"


def numbered(section: str, *cases: tuple[str, Step] | tuple[str, tuple[Step, ...]]) -> list[Case]:
    """Cases of one section, in order; each a title and its steps."""
    return [
        Case(section, number, title, steps if isinstance(steps, tuple) else (steps,))
        for number, (title, steps) in enumerate(cases, 1)
    ]


def common(dialog: Dialog, method: str) -> list[tuple[str, str]]:
    """The fields that every request has."""
    target = dialog.target
    return [
        (":method", method),
        (":scheme", target.scheme),
        (":path", target.path),
        (":authority", target.authority),
    ]


@dataclass(frozen=True)
class Request:
    """HEADERS of a request, right but for what is said.

    `without` and `replaced` are about its four pseudo-header fields, `first` and `fields` come before and after
    them. `before` and `after` are HPACK around the block, `cut` leaves out all of the block from there.
    """

    stream: int = 1
    method: str = "GET"
    end: bool = True
    end_headers: bool = True
    padding: int | None = None
    priority: bytes = b""
    first: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    before: bytes = b""
    after: bytes = b""
    cut: int | None = None

    def block(self, dialog: Dialog) -> bytes:
        """The whole block."""
        replaced = dict(self.replaced)
        fields = [
            (name, replaced.get(name, value))
            for name, value in common(dialog, self.method)
            if name not in self.without
        ]
        return self.before + h2.hpack_block((*self.first, *fields, *self.fields)) + self.after

    def __call__(self, dialog: Dialog) -> bytes:
        block = self.block(dialog)[: self.cut]
        return h2.headers(
            self.stream,
            block,
            end=self.end,
            end_headers=self.end_headers,
            padding=self.padding,
            priority=self.priority,
        )


@dataclass(frozen=True)
class Rest:
    """A CONTINUATION with a part of a request's block."""

    request: Request
    start: int
    stop: int | None = None
    end_headers: bool = True

    def __call__(self, dialog: Dialog) -> bytes:
        part = self.request.block(dialog)[self.start : self.stop]
        return h2.continuation(self.request.stream, part, end_headers=self.end_headers)


def code_names(codes: tuple[int, ...]) -> str:
    """Error codes for a message."""
    return " or ".join(str(code) for code in codes)


def connection_error(*codes: int) -> Wait:
    """GOAWAY with one of the codes, or the end of the connection."""

    def judge(frame: h2.Frame | None, strict: bool) -> bool | None:
        if frame is None:
            return not strict
        if frame.type == h2.GOAWAY and frame.error_code in codes:
            return True
        return False if strict and frame.type == h2.GOAWAY and frame.error_code else None

    return Wait(f"a connection error {code_names(codes)}", judge)


def stream_error(*codes: int) -> Wait:
    """RST_STREAM or GOAWAY with one of the codes, or the end of the connection."""

    def judge(frame: h2.Frame | None, strict: bool) -> bool | None:
        if frame is None:
            return not strict
        if frame.type in (h2.RST_STREAM, h2.GOAWAY) and frame.error_code in codes:
            return True
        return False if strict and frame.type == h2.GOAWAY and frame.error_code else None

    return Wait(f"a stream error {code_names(codes)}", judge)


def frame_with_code(type: int, code: int) -> Wait:
    """A RST_STREAM or GOAWAY, of this type and with this code."""

    def judge(frame: h2.Frame | None, strict: bool) -> bool | None:
        if frame is None:
            return False
        return frame.error_code == code if frame.type == type else None

    return Wait(f"{h2.NAMES[type]} {code}", judge)


def frame_of(type: int, *, stream: int | None = None, length: int | None = None) -> Wait:
    """The next frame of this type; it has to be for this stream and of this length."""

    def judge(frame: h2.Frame | None, strict: bool) -> bool | None:
        if frame is None:
            return False
        if frame.type != type:
            return None
        return stream in (None, frame.stream) and length in (None, len(frame.payload))

    size = "" if length is None else f" of {length} bytes"
    return Wait(h2.NAMES[type] + size + ("" if stream is None else f" for stream {stream}"), judge)


def first_frame_settings() -> Wait:
    """The server's own SETTINGS before anything else."""
    return Wait(
        "SETTINGS first", lambda frame, strict: bool(frame and frame.type == h2.SETTINGS and not frame.flags & h2.ACK)
    )


def settings_ack() -> Wait:
    """The next SETTINGS frame; it has to acknowledge."""

    def judge(frame: h2.Frame | None, strict: bool) -> bool | None:
        if frame is None:
            return False
        return bool(frame.flags & h2.ACK) if frame.type == h2.SETTINGS else None

    return Wait("SETTINGS with ACK", judge)


def ping_ack(payload: bytes = bytes(8), *, or_end: bool = False) -> Wait:
    """The next PING; it has to answer this one."""

    def judge(frame: h2.Frame | None, strict: bool) -> bool | None:
        if frame is None:
            return or_end
        return bool(frame.flags & h2.ACK) and frame.payload == payload if frame.type == h2.PING else None

    return Wait(f"PING with ACK and {payload!r}", judge)


def stream_end() -> Wait:
    """A whole response, or that the stream was ended without an error."""

    def judge(frame: h2.Frame | None, strict: bool) -> bool | None:
        if frame is None:
            return False
        return frame.ends_stream or (frame.type == h2.RST_STREAM and frame.error_code == h2.NO_ERROR) or None

    return Wait("the end of the stream", judge)


def connection_end() -> Wait:
    """The end of the connection."""
    return Wait("the end of the connection", lambda frame, strict: True if frame is None else None)


def too_many_requests(dialog: Dialog) -> bytes:
    """One request more than the server allows at once."""
    limit = dialog.settings.get(h2.MAX_CONCURRENT_STREAMS)
    if limit is None:
        raise Skipped("the server has no limit of streams")
    return b"".join(Request(2 * i + 1)(dialog) for i in range(limit + 1))


def too_large(dialog: Dialog) -> int:
    """One byte more than the server takes in a frame."""
    size = dialog.settings.get(h2.MAX_FRAME_SIZE, h2.DEFAULT_FRAME_SIZE) + 1
    if size >= 2**24:
        raise Skipped("the server takes frames of every size")
    return size
