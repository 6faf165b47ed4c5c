# cython: annotation_typing=False
"""The flow of bytes on one stream of HTTP/2, both ways (RFC 9113 section 5.2), and how long either may stand still.

Back-pressure is credit. The client gets none for bytes that the server has not taken; and a body that the client gives
no credit for waits in the session, up to `QUEUE_HIGH`, above which the other side is told. A server may have sent a
good deal more by then, and a hundred of them a hundred times that: so there is a bound for all streams together, too.
"""

from __future__ import annotations

from vsproxy.downstream.http2_owner import StreamOwner
from vsproxy.stream import Downstream
from vsproxy.timers import NEVER
from vsproxy.wire.http2 import CANCEL, Http2Session

_NEVER = NEVER
_CANCEL = CANCEL

#: Bytes of a body that may wait for the client's credit before the server's side is paused, and to which that has to
#: fall before it goes on.
QUEUE_HIGH, QUEUE_LOW = 128 * 1024, 32 * 1024
_QUEUE_HIGH, _QUEUE_LOW = QUEUE_HIGH, QUEUE_LOW
#: The same for all streams of a connection together. Then only those go on that have little queued and credit for a
#: frame at least, up to `MOST_QUEUED` together, and no request is begun.
ALL_HIGH, ALL_LOW, MOST_QUEUED = 4 * 1024 * 1024, 2 * 1024 * 1024, 8 * 1024 * 1024
_ALL_HIGH = ALL_HIGH
#: What a client may have under way on a stream at first, and at most, once it is seen that the server takes it.
FIRST_WINDOW, MOST_WINDOW = 64 * 1024, 4 * 1024 * 1024
_FIRST_WINDOW, _MOST_WINDOW = FIRST_WINDOW, MOST_WINDOW


class StreamFlow(Downstream):
    """See the module. `receiving`: the client has not ended its side; `sending`: nor have we ours."""

    __slots__ = (
        "is_full",
        "last_queued",
        "number",
        "owner",
        "passed",
        "patient",
        "reading_paused",
        "receiving",
        "sending",
        "session",
        "shared",
        "uncredited",
        "unsent",
        "window",
    )

    def prepare_flow(self, owner: StreamOwner, number: int, receiving: bool) -> None:
        """Take the place of `__init__`, which cannot be reached without a way through Python."""
        self.sweep_index = -1
        self.deadline = _NEVER
        self.splice = None
        self.owner = owner
        self.session: Http2Session = owner.session
        self.number = number
        self.receiving = receiving
        self.sending = True
        #: Somebody else sees to it that neither side stands still for too long.
        self.patient = False

        # The client's bytes
        self.reading_paused = False
        self.uncredited = 0
        self.window = _FIRST_WINDOW
        self.passed = 0

        # Ours
        self.is_full = False
        self.unsent = 0
        self.last_queued = 0
        self.shared = False

    # What is made of it

    def on_full(self, full: bool) -> None:
        """There is (no) room for more."""
        raise NotImplementedError

    def on_stalled(self) -> None:
        """The client sends no more of its body, though it may."""
        raise NotImplementedError

    # From the client

    def pause_reading(self) -> None:
        """No more credit for now."""
        self.reading_paused = True

    def resume_reading(self) -> None:
        """Credit again."""
        if self.reading_paused:
            self.reading_paused = False
            self.give_credit()
            self.owner.flush_soon()

    def give_credit(self) -> None:
        """The server has taken what came: the client may send as much again, and more if that goes on."""
        amount = self.uncredited
        if amount == 0:
            return
        self.uncredited = 0
        self.session.consume(self.number, amount)
        if not self.receiving:
            return
        self.passed += amount
        owner = self.owner
        if self.passed >= 2 * self.window and self.window < _MOST_WINDOW:
            self.passed = 0
            more = min(self.window, owner.spare_window)
            if more > 0:
                owner.spare_window -= more
                self.window += more
                self.session.widen(self.number, self.window)

    # To the client

    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self.session.queued(self.number)

    def queue(self, data: bytes, ended: bool) -> None:
        """Send; what the client gives no credit for, and what the connection has no room for, waits."""
        self.session.send(self.number, data, ended)
        # Not all of it may be queued still: what is really there is asked only when it may be too much.
        owner = self.owner
        self.unsent += len(data)
        owner.queued_most += len(data)
        if self.unsent >= _QUEUE_HIGH:
            self.look_for_excess()
        if owner.queued_most >= _ALL_HIGH:
            owner.look_at_total()
        owner.flush_soon()

    def look_for_excess(self) -> None:
        """Hold the other side back if too much is queued."""
        if not self.shared:
            # A long body is not to keep others of the same urgency waiting, unless the client says so.
            self.shared = True
            self.session.share(self.number)
        if self.is_full:
            return
        self.owner.push()
        self.unsent = self.session.queued(self.number)
        if self.unsent >= _QUEUE_HIGH:
            self.hold()

    def hold(self) -> None:
        """Hold the other side back."""
        if self.is_full or not self.sending:
            return
        self.is_full = True
        self.last_queued = self.session.queued(self.number)
        self.owner.full.add(self)
        self.set_wait()
        self.on_full(True)

    def look_for_room(self) -> None:
        """Something may have left: go on if that was enough."""
        queued = self.session.queued(self.number)
        if queued != self.last_queued:
            self.last_queued = queued
            self.set_wait()
        if queued <= _QUEUE_LOW and self.owner.has_room(self.number):
            self.unsent = queued
            self.empty()
            self.on_full(False)

    def empty(self) -> None:
        """Nobody waits for room any more."""
        self.is_full = False
        self.owner.full.discard(self)
        self.set_wait()

    def note_end(self) -> None:
        """Nothing more is sent; what is queued has to go within `send_timeout`, as far as that is told by progress."""
        self.sending = False
        self.last_queued = -1
        if self.is_full:
            self.is_full = False
            self.owner.full.discard(self)
        self.set_wait()
        self.owner.flush_soon()

    def leave_flow(self) -> None:
        """The stream is no more."""
        owner = self.owner
        owner.sweep.remove(self)
        if owner.full:
            owner.full.discard(self)
        if owner.ending:
            owner.ending.discard(self)
        owner.spare_window += self.window - _FIRST_WINDOW
        self.window = _FIRST_WINDOW
        self.receiving = self.sending = False
        self.reading_paused = False
        self.is_full = False
        self.give_credit()

    # Timed interface

    def set_wait(self) -> None:
        """The client has so long for its next move."""
        owner = self.owner
        if self.patient:
            self.deadline = _NEVER
            return
        if self.is_full or not self.sending:
            self.deadline = owner.sweep.now + owner.settings.send_timeout
        elif self.receiving:
            self.deadline = owner.sweep.now + owner.settings.body_timeout
        else:
            self.deadline = _NEVER
            return
        if self.sweep_index < 0:
            owner.sweep.add(self)

    def on_deadline(self, now: float) -> None:
        """The client sends nothing more of its body, or takes nothing more of the answer."""
        if self.is_full or not self.sending:
            queued = self.session.queued(self.number)
            if queued != self.last_queued or self.owner.writing_paused:
                self.last_queued = queued
            else:
                self.owner.note_stalled()
                self.session.reset(self.number, _CANCEL)
                self.owner.flush_soon()
        elif self.receiving and not self.reading_paused:
            self.on_stalled()
            return
        self.set_wait()
