"""A client that speaks HTTP/2 by the library `h2`, which shares nothing with what is tested, and may misbehave.

What the server sends is checked by `h2` (RFC 9113): an offence fails the test. What the client sends is not checked
beyond what is needed to frame it; `send_frame` sends anything at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from support.h2_pipe import Pipe, open_pipe
from support.h2_stream import H2Response, H2Stream
from support.http import Fields
from support.peer import PATIENCE

#: Windows in bytes: of a stream unless a test wants another, of the connection, and what both begin with (RFC 9113).
WIDE, CONNECTION, FIRST = 16 << 20, 1 << 30, 65535

Pairs = Iterable[tuple[str, str]]


class Connection(H2Connection):
    """`h2` takes a GOAWAY for the end of everything; streams that are open go on after it (RFC 9113 section 6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class H2Client:
    """One connection. `until` bounds every wait by `patience` seconds."""

    def __init__(self, pipe: Pipe, *, scheme: str = "http", window: int = WIDE) -> None:
        self.pipe = pipe
        self.scheme = scheme
        self.patience = PATIENCE
        self.streams: dict[int, H2Stream] = {}
        self.goaways: list[tuple[int, int]] = []  # last stream and code of each GOAWAY
        self.pings = 0  # answered by the server
        self.on_goaway: Callable[[], None] | None = None
        self.broken: Exception | None = None
        config = H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = Connection(config)
        first = {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.ENABLE_PUSH: 0}
        self.h2.local_settings = Settings(client=True, initial_values=first)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION - FIRST)
        self._front = bytearray()
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._reader = asyncio.create_task(self._read())

    @property
    def ended(self) -> str | None:
        """How the server has ended the connection: "fin", "reset"; None while it has not."""
        return self.pipe.ended

    # Requests

    async def start(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        authority: str | None = "test.example",
        fields: Pairs = (),
        end: bool = True,
        pseudo: Pairs = (),
        credit: bool = True,
        keep: bool = True,
    ) -> H2Stream:
        """Open a stream with a request's head; without `end` its body is to follow. `pseudo` adds pseudo-fields."""
        head = [(":method", method), (":scheme", self.scheme), (":path", path), *pseudo]
        if authority is not None:
            head.append((":authority", authority))
        return await self.start_raw([*head, *fields], end=end, credit=credit, keep=keep)

    async def start_raw(self, head: Pairs, *, end: bool = True, credit: bool = True, keep: bool = True) -> H2Stream:
        """Open a stream with exactly these fields in this order."""
        stream = self._new_stream(head, end)
        stream.credit, stream.keep = credit, keep
        await self.flush()
        return stream

    def open(self, method: str, path: str) -> H2Stream:
        """A request without a body that leaves with the next `flush`, for who may not wait."""
        head = [(":method", method), (":scheme", self.scheme), (":path", path), (":authority", "test.example")]
        return self._new_stream(head, True)

    def _new_stream(self, head: Pairs, end: bool) -> H2Stream:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, encoded(head), end_stream=end)
        stream = self.streams[number] = H2Stream(self, number)
        return stream

    async def request(
        self, method: str = "GET", path: str = "/", *, body: bytes | None = None, fields: Pairs = (), **options: object
    ) -> H2Response:
        """One request and its whole response. The body is sent without content-length unless `fields` has it."""
        stream = await self.start(method, path, fields=fields, end=body is None, **options)  # type: ignore[arg-type]
        if body is not None:
            await stream.send(body, end=True)
        return await stream.finished()

    # Frames

    async def send_headers(self, number: int, fields: Pairs, end: bool) -> None:
        """HEADERS, and CONTINUATION if they do not fit."""
        self.h2.send_headers(number, encoded(fields), end_stream=end)
        await self.flush()

    async def send_data(self, number: int, data: bytes, end: bool) -> None:
        """DATA within the credit that there is, waiting for more as often as needed.

        Returns early when the server has reset the stream, which no longer wants it.
        """
        view, stream = memoryview(data), self.streams[number]
        while True:
            size = min(len(view), self._room(number))
            last = size == len(view)
            if size or last:
                self.h2.send_data(number, bytes(view[:size]), end_stream=end and last)
                stream.sent += size
                await self.flush()
            view = view[size:]
            if last:
                return
            await self.until(lambda: stream.so_far.reset is not None or self._room(number), f"credit on {number}")
            if stream.so_far.reset is not None:
                return

    def _room(self, number: int) -> int:
        return max(min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size), 0)

    async def reset_stream(self, number: int, code: int) -> None:
        """RST_STREAM."""
        self.h2.reset_stream(number, code)
        await self.flush()

    async def widen(self, number: int, size: int) -> None:
        """WINDOW_UPDATE for a stream."""
        self.h2.increment_flow_control_window(size, number)
        await self.flush()

    async def settings(self, values: dict[int, int]) -> None:
        """SETTINGS."""
        self.h2.update_settings(values)
        await self.flush()

    async def ping(self) -> None:
        """A PING and its answer: the server has read all that was sent before."""
        before = self.pings
        self.h2.ping(b"12345678")
        await self.flush()
        await self.until(lambda: self.pings > before, "the answer to a PING")

    async def send_frame(self, frame: Frame) -> None:
        """Any frame, unknown to `h2`."""
        await self.send_bytes(frame.serialize())

    async def send_bytes(self, data: bytes) -> None:
        """Any bytes, after what is waiting to be sent."""
        async with self._sending:
            await self.pipe.send(self._take() + data)

    async def flush(self) -> None:
        """Send what was put in front, and then what `h2` has to send."""
        async with self._sending:
            while data := self._take():
                await self.pipe.send(data)

    def queue(self, data: bytes) -> None:
        """Let `data` be sent with the next `flush`, in front of what `h2` says from now on."""
        self._front += data

    def _take(self) -> bytes:
        data = bytes(self._front) + self.h2.data_to_send()
        self._front.clear()
        return data

    # Waiting

    async def until(self, condition: Callable[[], object], what: str, seconds: float | None = None) -> None:
        """Wait for `condition`; fails when the connection is over, or an offence of the server was found."""
        limit = self.patience if seconds is None else seconds
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    if self.broken:
                        raise AssertionError("the server's HTTP/2 is wrong") from self.broken
                    assert not self.ended, f"{what}: the connection ended ({self.ended}), GOAWAY {self.goaways}"
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what}: not within {limit} s") from None

    async def goaway(self, count: int = 1) -> tuple[int, int]:
        """The last stream and the code of the `count`-th GOAWAY, awaited."""
        await self.until(lambda: len(self.goaways) >= count, f"{count} GOAWAY")
        return self.goaways[count - 1]

    async def wait_closed(self, seconds: float | None = None) -> str:
        """Wait until the server has ended the connection; "fin" or "reset"."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience if seconds is None else seconds):
                while not self.ended:
                    await self._changed.wait()
        assert self.ended, "the connection is still open"
        return self.ended

    async def settings_arrived(self) -> dict[int, int]:
        """The server's settings, once they have come."""
        # The answer to a PING comes after them.
        await self.ping()
        return dict(self.h2.remote_settings)

    def pause(self) -> None:
        """Read nothing from now on, but what a read that has begun still brings."""
        self._may_read.clear()

    def resume(self) -> None:
        """Read again."""
        self._may_read.set()

    # Reading

    async def _read(self) -> None:
        while not self.ended:
            await self._may_read.wait()
            data = await self.pipe.recv()
            try:
                for event in self.h2.receive_data(data) if data else ():
                    self._on_event(event)
                if data:
                    await self.flush()
            except ConnectionError:
                pass  # recv tells how it has ended
            except Exception as error:
                self.broken = error
                self._tell()
                return
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append((event.last_stream_id or 0, int(event.error_code or 0)))
            if self.on_goaway:
                self.on_goaway()
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings += 1
        elif (stream := self.streams.get(getattr(event, "stream_id", 0) or 0)) is not None:
            self._on_stream_event(stream, event)

    def _on_stream_event(self, stream: H2Stream, event: h2.events.Event) -> None:
        if isinstance(event, (h2.events.ResponseReceived, h2.events.InformationalResponseReceived)):
            fields = decoded(event.headers)
            stream.head(int(fields[0][1]), Fields(fields[1:]))
        elif isinstance(event, h2.events.TrailersReceived):
            stream.so_far.trailers = decoded(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.data(event.data)
            stream.owed += event.flow_controlled_length
            if stream.credit and stream.owed:
                self.h2.acknowledge_received_data(stream.owed, stream.number)
                stream.owed = 0
        elif isinstance(event, h2.events.StreamEnded):
            stream.so_far.complete = True
        elif isinstance(event, h2.events.StreamReset):
            stream.so_far.reset = int(event.error_code)

    # The end

    async def close(self) -> None:
        """Close the connection without a word."""
        self.pipe.close()
        await self._stop()

    async def abort(self) -> None:
        """Reset the connection."""
        self.pipe.reset()
        await self._stop()

    async def _stop(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


def encoded(fields: Pairs) -> list[tuple[bytes, bytes]]:
    """Fields as bytes, a character each."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def decoded(fields: Iterable[tuple[bytes, bytes]] | None) -> Fields:
    """Fields as text, byte by byte."""
    return Fields((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in fields or ())


@contextlib.asynccontextmanager
async def h2_client(
    address: str,
    *,
    tls: ssl.SSLContext | None = None,
    name: str = "localhost",
    window: int = WIDE,
    receive_buffer: int | None = None,
) -> AsyncIterator[H2Client]:
    """A client that is connected to `host:port`, by prior knowledge or by ALPN.

    `window` (bytes) is what it lets the server send on each stream before it gives credit; the connection has plenty.
    """
    pipe = await open_pipe(address, tls, name, receive_buffer)
    client = H2Client(pipe, scheme="http" if tls is None else "https", window=window)
    await client.flush()
    try:
        yield client
    finally:
        await client.close()
