"""The check of frames in front of the HTTP/2 library: what it ends a connection for, and what it never does."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st

from support import h2_frames as h2
from support.wire import cut_at, in_bytes
from vsproxy.wire import http2_floods, http2_frames
from vsproxy.wire.http2_frames import FrameCheck

START = h2.PREFACE + h2.settings()
BLOCK = h2.hpack_block([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
GET = h2.headers(1, BLOCK, end=True)
POST = h2.headers(1, BLOCK)
BURST = http2_floods.CONTROL_BURST
CALM = h2.ENHANCE_YOUR_CALM


def judge(*pieces: bytes, check: FrameCheck | None = None) -> tuple[int, str]:
    """The error and the reason, after these reads."""
    check = check or FrameCheck()
    for piece in pieces:
        passed = check.check(piece)
        assert 0 <= passed <= len(piece)
        if not check.error:
            assert passed == len(piece)
    return check.error, check.reason


def passed_before(check: FrameCheck, frame: bytes, limit: int = 100_000) -> int:
    """How often the frame is taken before the connection is ended."""
    for count in range(limit):
        if check.check(frame) != len(frame):
            return count
    raise AssertionError("taken without end")


def started() -> FrameCheck:
    """After the preface and SETTINGS."""
    check = FrameCheck()
    assert check.check(START) == len(START)
    return check


ENDED = {
    "no preface": (h2.PROTOCOL_ERROR, "no preface", b"GET / HTTP/1.1\r\n\r\n"),
    "large DATA": (h2.FRAME_SIZE_ERROR, "frame too large", START + POST + h2.data(1, bytes(16385))),
    "large unknown": (h2.FRAME_SIZE_ERROR, "frame too large", START + h2.raw(77, 0, 0, bytes(16385))),
    "inside a block": (
        h2.PROTOCOL_ERROR,
        "broken header block",
        START + h2.headers(1, BLOCK, end_headers=False) + h2.ping(),
    ),
    "another block": (
        h2.PROTOCOL_ERROR,
        "broken header block",
        START + h2.headers(1, BLOCK, end_headers=False) + h2.continuation(3),
    ),
    "no block": (h2.PROTOCOL_ERROR, "broken header block", START + GET + h2.continuation(1)),
    "DATA after END_STREAM": (h2.STREAM_CLOSED, "frame for a closed stream", START + GET + h2.data(1, b"x")),
    "DATA after its end": (
        h2.STREAM_CLOSED,
        "frame for a closed stream",
        START + POST + h2.data(1, b"x", end=True) + h2.data(1, b"x"),
    ),
    "DATA after RST_STREAM": (
        h2.STREAM_CLOSED,
        "frame for a closed stream",
        START + POST + h2.rst_stream(1) + h2.data(1, b"x"),
    ),
    "HEADERS after END_STREAM": (h2.STREAM_CLOSED, "frame for a closed stream", START + GET + GET),
    "HEADERS after trailers": (
        h2.STREAM_CLOSED,
        "frame for a closed stream",
        START + POST + h2.headers(1, BLOCK, end=True) + h2.headers(1, BLOCK, end=True),
    ),
    "a stream left out": (
        h2.PROTOCOL_ERROR,
        "stream identifiers out of order",
        START + h2.headers(7, BLOCK, end=True) + h2.headers(3, BLOCK, end=True),
    ),
    "PRIORITY of no stream": (h2.PROTOCOL_ERROR, "priority of no stream", START + h2.priority(0)),
    "PRIORITY of 4 bytes": (
        h2.FRAME_SIZE_ERROR,
        "priority of a wrong length",
        START + h2.raw(h2.PRIORITY, 0, 1, bytes(4)),
    ),
    "PRIORITY on itself": (h2.PROTOCOL_ERROR, "stream depends on itself", START + h2.priority(5, 5, exclusive=True)),
    "HEADERS on itself": (
        h2.PROTOCOL_ERROR,
        "stream depends on itself",
        START + h2.headers(1, BLOCK, priority=h2.priority_fields(1)),
    ),
    "padded HEADERS on itself": (
        h2.PROTOCOL_ERROR,
        "stream depends on itself",
        START + h2.headers(1, BLOCK, priority=h2.priority_fields(1), padding=3),
    ),
    "DATA with too much padding": (
        h2.PROTOCOL_ERROR,
        "more padding than frame",
        START + POST + h2.raw(h2.DATA, h2.PADDED, 1, b"\4abc"),
    ),
    "DATA without its padding": (
        h2.PROTOCOL_ERROR,
        "more padding than frame",
        START + POST + h2.raw(h2.DATA, h2.PADDED | h2.END_STREAM, 1),
    ),
    "empty DATA": (CALM, "empty frames", START + POST + h2.data(1) * 17),
    "DATA of padding": (CALM, "empty frames", START + POST + h2.data(1, padding=9) * 17),
    "empty CONTINUATION": (
        CALM,
        "empty frames",
        START + POST + h2.headers(1, b"") * 12 + h2.headers(1, b"", end_headers=False)
        + h2.continuation(1, end_headers=False) * 4,
    ),
    "empty HEADERS": (CALM, "empty frames", START + POST + h2.headers(1, b"") * 17),
    "HEADERS of padding": (CALM, "empty frames", START + POST + h2.headers(1, b"", padding=200) * 17),
    "CONTINUATION without end": (
        CALM,
        "continuation flood",
        START + h2.headers(1, BLOCK, end_headers=False) + h2.continuation(1, b"x", end_headers=False) * 17,
    ),
    "a block that is too large": (
        CALM,
        "header block too large",
        START + h2.headers(1, bytes(16384), end_headers=False) + h2.continuation(1, bytes(8193), end_headers=False) * 2,
    ),
    "padding": (CALM, "more framing than content", START + POST + h2.data(1, b"x", padding=255) * 4200),
    "unknown frames that are large": (CALM, "more framing than content", START + h2.raw(77, 0, 0, bytes(16384)) * 65),
}

TAKEN = {
    "an ordinary request": GET,
    "with body and trailers": POST + h2.data(1, b"x") + h2.data(1, b"y", padding=3) + h2.headers(1, BLOCK, end=True),
    "with an empty body": POST + h2.data(1, end=True),
    "a few empty frames": POST + h2.data(1) * 16 + h2.data(1, b"x") + h2.data(1) * 16 + h2.data(1, end=True),
    "a block in pieces": h2.headers(1, BLOCK[:5], end=True, end_headers=False)
    + h2.continuation(1, BLOCK[5:9], end_headers=False)
    + h2.continuation(1, BLOCK[9:]),
    "a block of 32 KiB": h2.headers(1, bytes(16384), end=True, end_headers=False) + h2.continuation(1, bytes(16384)),
    "eight CONTINUATION": h2.headers(1, BLOCK, end=True, end_headers=False)
    + h2.continuation(1, b"x", end_headers=False) * 7
    + h2.continuation(1, b"x"),
    "priority of streams that are closed or idle": GET + h2.priority(1, 3) + h2.priority(9, 1) + h2.priority_update(1),
    "an increment and a reset after the end": GET + h2.window_update(1, 100) + h2.rst_stream(1) + h2.rst_stream(1),
    "streams left out": h2.headers(3, BLOCK, end=True) + h2.headers(99, BLOCK, end=True),
    "the largest frame": POST + h2.data(1, bytes(16384)),
    "what the library refuses": h2.data(3, b"x") + h2.headers(2, BLOCK) + h2.raw(h2.PING, 0, 9, b"x") + h2.data(0),
    "HEADERS too short for their flags": h2.raw(h2.HEADERS, 0x2D, 1, b"\xff\0\0"),
    "HEADERS of nothing but flags": h2.raw(h2.HEADERS, 0x2D, 1),
    "frames after a GOAWAY": GET + h2.goaway() + h2.window_update(0, 10),
}


@pytest.mark.parametrize("name", ENDED)
def test_a_connection_is_ended(name: str) -> None:
    error, reason, data = ENDED[name]
    assert judge(data) == (error, reason)
    assert judge(*in_bytes(data[:5_000]), data[5_000:]) == (error, reason)


@pytest.mark.parametrize("name", TAKEN)
def test_a_connection_goes_on(name: str) -> None:
    data = START + TAKEN[name]
    assert judge(data) == (0, "")
    assert judge(*in_bytes(data)) == (0, "")


def test_the_frame_that_ends_it_is_held_back() -> None:
    good = START + GET + h2.ping()
    check = FrameCheck()
    assert check.check(good + h2.priority(0) + h2.ping()) == len(good)
    assert check.check(h2.ping()) == 0


@pytest.mark.parametrize(
    ("frame", "reason", "weight"),
    [
        (h2.ping(), "ping flood", 2),
        (h2.ping(ack=True), "ping flood", 1),
        (h2.settings(), "settings flood", 10),
        (h2.settings((h2.INITIAL_WINDOW_SIZE, 1)), "settings flood", 10),
        (h2.settings_ack(), "settings flood", 1),
        (h2.priority(3), "priority flood", 1),
        (h2.priority_update(3), "priority update flood", 1),
        (h2.window_update(0, 1), "window update flood", 1),
        (h2.goaway(), "goaway flood", 1),
        (h2.raw(0xAB, 0, 0), "unknown frame flood", 3),
    ],
)
def test_a_flood_is_ended(frame: bytes, reason: str, weight: int) -> None:
    check = started()
    assert passed_before(check, frame) == (BURST - 10) // weight
    assert (check.error, check.reason) == (CALM, reason)


def test_resets_have_a_limit_of_their_own() -> None:
    """Each has made work before."""
    check = started()
    assert passed_before(check, h2.rst_stream(1)) == http2_floods.RESET_BURST
    assert (check.error, check.reason) == (CALM, "rapid reset")


def test_resets_may_go_on_slowly() -> None:
    check = started()
    for second in range(60):
        for _ in range(http2_floods.RESET_RATE):
            assert check.check(h2.rst_stream(1), second + 1.0) == 13


def test_many_frames_are_taken_in_several_turns() -> None:
    check = FrameCheck()
    data = START + POST + h2.data(1, b"x") * 10 + h2.data(1, bytes(1000))
    left, turns = data, []
    while left:
        passed = check.check(left[:-1] if len(left) > 1 else left, 0.0, 4)
        turns.append(passed)
        left = left[passed:]
    assert check.error == 0
    assert sum(turns) == len(data)
    assert len(turns) == 5
    assert turns[1] == 4 * len(h2.data(1, b"x"))


def test_it_is_told_since_when_a_header_block_is_waited_for() -> None:
    check = started()
    assert check.waiting_since() == 0
    for whole in (GET, h2.headers(3, BLOCK, end_headers=False) + h2.continuation(3, BLOCK)):
        for cut in range(9, len(whole)):
            check = started()
            check.check(whole[:cut], 5.0)
            assert check.waiting_since() == 5.0
            check.check(b"", 7.0)
            assert check.waiting_since() == 5.0
            check.check(whole[cut:], 9.0)
            assert (check.waiting_since(), check.error) == (0, 0)


def test_a_body_is_no_header_block() -> None:
    check = started()
    check.check(POST + h2.data(1, bytes(100))[:50], 5.0)
    assert check.waiting_since() == 0


def test_a_flood_among_empty_frames_and_crumbs_is_ended() -> None:
    check = started()
    assert check.check(POST) == len(POST)
    assert passed_before(check, h2.data(1) + h2.data(1, b"x")) < BURST // 8 + 2
    assert check.reason == "empty frames"


@pytest.mark.parametrize("per_second", [20, 99])
def test_what_comes_slowly_may_come_for_ever(per_second: int) -> None:
    check = started()
    for second in range(60):
        for _ in range(per_second):
            assert check.check(h2.ping(), second + 1.0) == len(h2.ping())


def test_a_connection_lives_for_months_on_its_pings() -> None:
    check = started()
    frame = h2.ping()
    for count in range(70_000):
        assert check.check(frame, 10.0 * count) == len(frame)


def test_time_does_not_forgive_more_than_there_is() -> None:
    check = started()
    check.check(b"", 1e9)
    assert passed_before(check, h2.priority(3)) == BURST


def test_requests_justify_control_frames() -> None:
    """A browser's priorities and window updates, for as long as it asks for something."""
    check = started()
    for count in range(3000):
        stream = 2 * count + 1
        frames = h2.headers(stream, BLOCK, end=True) + h2.priority(stream) + h2.priority_update(stream) * 3
        frames += h2.window_update(stream, 1000) + h2.window_update(0, 1000) + h2.ping()
        assert check.check(frames) == len(frames), check.reason


def test_a_download_justifies_window_updates() -> None:
    """Credit for 4 KiB at a time, to the stream and to the connection: 128 MiB of it."""
    check = started()
    assert check.check(GET) == len(GET)
    updates = (h2.window_update(1, 4096) + h2.window_update(0, 4096)) * 4
    for _ in range(8192):
        check.guard.sent(16384)
        assert check.check(updates) == len(updates), check.reason


def test_small_messages_justify_window_updates_and_pings() -> None:
    check = started()
    assert check.check(GET) == len(GET)
    updates = h2.window_update(1, 50) + h2.window_update(0, 50) + h2.ping()
    for _ in range(10_000):
        check.guard.sent(50)
        assert check.check(updates) == len(updates), check.reason


def test_content_is_not_saved_up_without_end() -> None:
    check = started()
    for _ in range(1000):
        check.guard.sent(1 << 30)
    assert passed_before(check, h2.priority(3), 1_000_000) == http2_floods.MAX_CREDIT


def test_uploads_that_we_ended_are_not_kept() -> None:
    """Their client may never end them; what is remembered of them is bounded."""
    check = started()
    for count in range(10_000):
        frame = h2.headers(2 * count + 1, BLOCK)
        assert check.check(frame) == len(frame)
    assert len(check._open) <= http2_frames.MAX_OPEN
    late = h2.data(1, b"x") + h2.data(19_999, b"x")
    assert check.check(late) == len(late)


@pytest.mark.parametrize("increment", [2**30, 2**31 - 1])
def test_a_large_increment_of_a_stream_is_the_owners_to_judge(increment: int) -> None:
    check = started()
    before, update, after = POST + h2.ping(), h2.window_update(1, increment), h2.data(1, b"x") + h2.priority(0)
    data = before + update + after
    assert check.check(data) == len(before)
    assert (check.update_stream, check.update_increment, check.error) == (1, increment, 0)
    assert check.check(data[len(before) + len(update) :]) == len(h2.data(1, b"x"))
    assert (check.update_stream, check.reason) == (0, "priority of no stream")


def test_a_large_increment_may_be_one_too_many() -> None:
    """Then there is nothing to judge any more: who asks again for what to do must not be told the same for ever."""
    check = started()
    update = h2.window_update(1, 2**30)
    for _ in range(BURST):
        check.check(update)
        if check.error:
            break
        assert check.update_stream == 1
    assert (check.error, check.reason, check.update_stream) == (CALM, "window update flood", 0)
    assert check.check(update) == 0


def test_other_increments_pass() -> None:
    check = started()
    of_connection, small = h2.window_update(0, 2**31 - 1), h2.window_update(1, 2**30 - 1)
    for frame in (of_connection, small, h2.raw(h2.WINDOW_UPDATE, 0, 1, b"\x7f")):
        assert check.check(frame) == len(frame)
        assert (check.update_stream, check.error) == (0, 0)
    assert judge(*in_bytes(h2.window_update(1, 2**31 - 1)), check=check) == (0, "")
    assert check.update_stream == 0


FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
DEEDS = ["get", "post", "data", "end", "trailers", "cancel", "ping", "settings", "window", "priority"]
STREAMS = st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 9])
PAYLOADS = st.binary(max_size=12)
FRAMES: st.SearchStrategy[bytes] = st.one_of(
    st.builds(lambda s, p, e: h2.data(s, p, end=e), STREAMS, PAYLOADS, st.booleans()),
    st.builds(lambda s, n: h2.data(s, b"x", padding=n), STREAMS, st.integers(0, 255)),
    st.builds(
        lambda s, p, e, h, d: h2.headers(s, p, end=e, end_headers=h, priority=h2.priority_fields(d) if d else b""),
        STREAMS,
        PAYLOADS,
        st.booleans(),
        st.booleans(),
        STREAMS,
    ),
    st.builds(lambda s, p, h: h2.continuation(s, p, end_headers=h), STREAMS, PAYLOADS, st.booleans()),
    st.builds(lambda s, d: h2.priority(s, d), STREAMS, STREAMS),
    st.builds(h2.rst_stream, STREAMS),
    st.builds(lambda n: h2.settings() * n, st.integers(1, 300)),
    st.builds(lambda n: h2.ping() * n, st.integers(1, 1500)),
    st.builds(lambda s, n: h2.data(s) * n, STREAMS, st.integers(1, 20)),
    st.builds(lambda s, i: h2.window_update(s, i), STREAMS, st.integers(0, 2**30 - 1)),
    st.builds(lambda t, f, s, p: h2.raw(t, f, s, p), st.integers(0, 30), st.integers(0, 255), STREAMS, PAYLOADS).filter(
        lambda frame: frame[3] != h2.WINDOW_UPDATE
    ),
    st.just(h2.data(1, bytes(16385))),
)


def run(pieces: list[bytes]) -> tuple[int, str, int]:
    """The error, the reason, and how many bytes passed."""
    check = FrameCheck()
    passed = 0
    for piece in pieces:
        passed += check.check(piece)
        assert check.update_stream == 0
    return check.error, check.reason, passed


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(0, 5000), max_size=12))
def test_the_verdict_does_not_depend_on_the_reads(frames: list[bytes], cuts: list[int]) -> None:
    data = START + b"".join(frames)
    whole = run([data])
    pieces = run(cut_at(data, *cuts))
    assert pieces[:2] == whole[:2]
    # A head that came in pieces has in part gone on when it is judged.
    assert whole[2] <= pieces[2] <= whole[2] + 13
    crumbs = run([*in_bytes(data[:3000]), data[3000:]])
    assert crumbs[:2] == whole[:2]
    assert whole[2] <= crumbs[2] <= whole[2] + 13


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=5))
def test_nothing_upsets_it(noise: bytes, cuts: list[int]) -> None:
    check = FrameCheck()
    for piece in cut_at(START + noise, *cuts):
        passed = check.check(piece)
        assert 0 <= passed <= len(piece)
        assert check.error or check.update_stream or passed == len(piece)





class Talk:
    """A client and a server on `h2`, which keeps both to the protocol; `said` is what the client has sent."""

    def __init__(self) -> None:
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = H2Connection(H2Configuration(client_side=False))
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.said: list[bytes] = []
        self.open: list[int] = []
        self.hear()

    def hear(self) -> None:
        """Let each hear what the other has to say."""
        while True:
            ours, theirs = self.client.data_to_send(), self.server.data_to_send()
            if not ours and not theirs:
                return
            self.said.append(ours)
            self.server.receive_data(ours)
            self.client.receive_data(theirs)

    def do(self, deed: str, which: int) -> None:
        """One thing that a client may do; with the stream of this number, if it needs one."""
        if deed == "get":
            self.client.send_headers(self.client.get_next_available_stream_id(), FIELDS, end_stream=True)
        elif deed == "post":
            self.open.append(self.client.get_next_available_stream_id())
            self.client.send_headers(self.open[-1], FIELDS, priority_weight=5, priority_depends_on=0)
        elif deed == "ping":
            self.client.ping(bytes(8))
        elif deed == "settings":
            self.client.update_settings({4: 1000 + which})
        elif deed == "window":
            self.client.increment_flow_control_window(1 + which)
        elif deed == "priority":
            self.client.prioritize(2 * which + 1, weight=7)
        elif self.open:
            self.do_with(deed, self.open[which % len(self.open)], which)

    def do_with(self, deed: str, stream: int, which: int) -> None:
        """Something with a request that has not ended."""
        if deed == "data":
            self.client.send_data(stream, bytes(which + 1), pad_length=which or None)
        elif deed == "end":
            self.client.end_stream(stream)
        elif deed == "trailers":
            self.client.send_headers(stream, [("x", "y")], end_stream=True)
        elif deed == "cancel":
            self.client.reset_stream(stream, 8)
        if deed != "data":
            self.open.remove(stream)


@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 9)), max_size=60), st.lists(st.integers(0, 2000)))
def test_what_keeps_to_the_protocol_is_taken(deeds: list[tuple[str, int]], cuts: list[int]) -> None:
    talk = Talk()
    for deed, which in deeds:
        talk.do(deed, which)
        talk.hear()
    said = b"".join(talk.said)
    assert judge(said) == (0, "")
    assert judge(*cut_at(said, *cuts)) == (0, "")
