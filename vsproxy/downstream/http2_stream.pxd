from vsproxy.downstream.serving cimport ListenerSettings
from vsproxy.exchange cimport Exchange
from vsproxy.stream cimport Downstream, ExchangeEvents
from vsproxy.timers cimport Sweep, Timed
from vsproxy.wire.http2 cimport Http2Session
from vsproxy.wire.http2_head cimport interim_fields, opened_fields, response_fields, trailer_fields
from vsproxy.wire.message cimport ResponseHead, field_value, make_response
import cython

cdef double _NEVER
cdef int _NO_ERROR, _INTERNAL_ERROR, _CANCEL
cdef Py_ssize_t _QUEUE_HIGH, _QUEUE_LOW
cdef Py_ssize_t _FIRST_WINDOW, _MOST_WINDOW


cdef class StreamOwner(Timed):
    cdef public set ending
    cdef public set full
    cdef public Http2Session session
    cdef public ListenerSettings settings
    cdef public Py_ssize_t spare_window
    cdef public Sweep sweep
    cdef public bint writing_paused

    cpdef flush(self)
    cpdef flush_soon(self)
    cpdef push(self)
    cpdef note_over(self, ExchangeEvents exchange)
    cpdef note_stalled(self)


cdef class Http2Stream(Downstream):
    cdef public Exchange exchange
    cdef public Py_ssize_t head_size
    cdef public ResponseHead held
    cdef public bint is_full
    cdef public bytes last_piece
    cdef public Py_ssize_t last_queued
    cdef public bytes method
    cdef public Py_ssize_t missing
    cdef public int number
    cdef public StreamOwner owner
    cdef public Py_ssize_t passed
    cdef public bytes protocol
    cdef public bint reading_paused
    cdef public bint receiving
    cdef public bint refused_switch
    cdef public bint sending
    cdef public Http2Session session
    cdef public bint shared
    cdef public object transport
    cdef public Py_ssize_t uncredited
    cdef public bint waits
    cdef public Py_ssize_t window

    cpdef prepare(self, StreamOwner owner, int number, bint receiving)
    @cython.locals(exchange=Exchange)
    cpdef on_data(self, bytes data, bint ended)
    @cython.locals(exchange=Exchange)
    cpdef on_trailers(self, bytes lines)
    cpdef take_for_tunnel(self, bytes data, bint ended)
    @cython.locals(exchange=Exchange)
    cpdef on_closed(self, bint failed)
    @cython.locals(amount=Py_ssize_t, owner=StreamOwner, more=Py_ssize_t)
    cpdef give_credit(self)
    @cython.locals(owner=StreamOwner)
    cpdef set_deadline(self, double seconds)
    @cython.locals(head=ResponseHead)
    cpdef release_head(self, bint ended)
    cpdef fill(self)
    @cython.locals(queued=Py_ssize_t)
    cpdef look_for_room(self)
    @cython.locals(owner=StreamOwner)
    cpdef note_end(self)
    cpdef leave(self)
    cpdef finish_if_sent(self)
    cpdef answer(self, int status, str reason)
    cpdef Py_ssize_t queued(self) except -1
    cpdef end_tunnel(self)
    cpdef leave_tunnel(self)
    cpdef cancel(self)
