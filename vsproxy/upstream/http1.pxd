from vsproxy.sender cimport Sender
from vsproxy.stream cimport ExchangeEvents, Upstream
from vsproxy.timers cimport Sweep
from vsproxy.upstream.server cimport Server
from vsproxy.wire.body cimport BodyReader, chunk_end, chunk_start
from vsproxy.wire.message cimport RequestHead, ResponseHead
from vsproxy.wire.response cimport ResponseParser, response_body_mode
import cython

cdef int _BODY_UNTIL_CLOSE
cdef double _NEVER
cdef Py_ssize_t _MAX_INTERIM
cdef Py_ssize_t _MIN_REST
cdef Py_ssize_t _RESCUE_SIZE


cdef class UpstreamConnection(Upstream):
    cdef public bint asked_upgrade
    cdef public BodyReader body
    cdef public bint chunked
    cdef public double created
    cdef public bint end_of_stream
    cdef public ExchangeEvents events
    cdef public bint has_head
    cdef public double idle_since
    cdef public Py_ssize_t interims
    cdef public bytes leftover
    cdef public bint lost
    cdef public bytes method
    cdef public ResponseParser parser
    cdef public double read_timeout
    cdef public bint reading_paused
    cdef public Py_ssize_t requests
    cdef public int rescue
    cdef public bint response_started
    cdef public bint reusable
    cdef public double send_timeout
    cdef public Sender sender
    cdef public bint sent_end
    cdef public Server server
    cdef public Sweep sweep
    cdef public object tls
    cdef public object transport
    cdef public Py_ssize_t unsent
    cdef public bint writing_paused

    cpdef connection_made(self, object transport)
    cpdef connection_lost(self, object exc)
    cpdef data_received(self, bytes data)
    cpdef bint eof_received(self) except *
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef begin(self, ExchangeEvents events, double read_timeout, double send_timeout)
    cpdef note_head(self, RequestHead head, bint whole)
    @cython.locals(tail=bytes)
    cpdef send_first(self, RequestHead head, bytes lines, bytes data, bint whole, bytes trailers)
    cpdef note_end(self)
    cpdef close(self)
    cpdef detach(self)
    cpdef expect_nothing(self)
    @cython.locals(pos=Py_ssize_t, head=ResponseHead)
    cpdef read(self, bytes data)
    @cython.locals(mode=int)
    cpdef read_head(self, ResponseHead head, bint more)
    @cython.locals(payload=bytes)
    cpdef read_body(self, bytes data, Py_ssize_t pos)
    cpdef switch(self, ResponseHead head, bytes rest)
    @cython.locals(events=ExchangeEvents)
    cpdef complete(self, bytes trailers)
    @cython.locals(events=ExchangeEvents)
    cpdef fail(self, str kind)
    cpdef write(self, bytes data)
    cpdef bint leave_idle(self) except *
    cpdef closed_while_idle(self)
    cpdef close_rescue(self)
