from vsproxy.exchange cimport Exchange
from vsproxy.headers cimport Forwarding
from vsproxy.stream cimport Downstream
from vsproxy.timers cimport Sweep
from vsproxy.wire.body cimport BodyReader
from vsproxy.wire.http1 cimport RequestParser
from vsproxy.wire.message cimport RequestHead, ResponseHead
import cython

cdef double _NEVER
cdef int _IDLE, _HEAD, _BODY, _RESPONSE, _LINGER, _TUNNEL
cdef Py_ssize_t _DRAIN_SIZE
cdef double _LINGER_TIME
cdef double _WATCH_TIME


cdef class DownstreamConnection(Downstream):
    cdef public BodyReader body
    cdef public bint chunked
    cdef public bint close_after
    cdef public bint discarding
    cdef public bint end_of_stream
    cdef public Exchange exchange
    cdef public Forwarding forwarding
    cdef public bint framed
    cdef public bytes held
    cdef public double limit
    cdef public RequestParser parser
    cdef public bytes pending
    cdef public bint reading_body
    cdef public bint reading_paused
    cdef public Py_ssize_t requests
    cdef public bint running
    cdef public object serving
    cdef public object settings
    cdef public object stats
    cdef public bint stopped
    cdef public Sweep sweep
    cdef public object transport
    cdef public Py_ssize_t unsent
    cdef public int wait
    cdef public bint writing_paused

    cpdef connection_made(self, object transport)
    cpdef connection_lost(self, object exc)
    cpdef data_received(self, bytes data)
    cpdef bint eof_received(self) except *
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    @cython.locals(exchange=Exchange)
    cpdef advance(self, bytes data)
    @cython.locals(pos=Py_ssize_t, size=Py_ssize_t, head=RequestHead)
    cpdef run(self, bytes data)
    @cython.locals(body=BodyReader, payload=bytes, exchange=Exchange)
    cpdef Py_ssize_t take_body(self, bytes data, Py_ssize_t pos) except -1
    @cython.locals(mode=int, exchange=Exchange)
    cpdef begin(self, RequestHead head)
    cpdef on_exchange_over(self, Exchange exchange)
    cpdef next_request(self)
    cpdef refuse(self, int status, str reason)
    cpdef linger(self)
    cpdef stop(self)
    cpdef reset(self)
    cpdef drain(self)
    cpdef give_notice(self)
    cpdef cut(self)
    cpdef bint can_drain(self, RequestHead request) except *
    cpdef hold_reading(self, bint hold)
    cpdef set_reading(self)
    cpdef set_wait(self, int wait, double seconds)
    cpdef bint is_broken(self) except *
    cpdef write(self, bytes data)
