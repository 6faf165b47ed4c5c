from vsproxy.downstream.http2_stream cimport Http2Stream, StreamOwner
from vsproxy.downstream.serving cimport ListenerSettings, Serving, answer_here
from vsproxy.exchange cimport Exchange
from vsproxy.headers cimport Forwarding
from vsproxy.listener_stats cimport ListenerStats
from vsproxy.sender cimport Sender, new_sender
from vsproxy.stream cimport ExchangeEvents
from vsproxy.upstream.server cimport Server
from vsproxy.wire.http2_head cimport Http2HeadReader, trailer_lines
from vsproxy.wire.message cimport RequestHead
import cython

cdef double _NEVER
cdef int _NO_ERROR
cdef Py_ssize_t _MAX_HEADS, _OUTPUT
cdef double _NOTICE_TIME, _LOOK_TIME, _LAST_WORDS
cdef int _STAYING, _NOTICED, _LEFT


cdef class Http2Connection(StreamOwner):
    cdef public list beginning
    cdef public int descriptor
    cdef public int end
    cdef public bint flush_due
    cdef public bint flushing
    cdef public Forwarding forwarding
    cdef public Py_ssize_t heads
    cdef public double idle_limit
    cdef public object loop
    cdef public double notice_limit
    cdef public bytes origin
    cdef public Http2HeadReader reader
    cdef public Py_ssize_t requests
    cdef public Sender sender
    cdef public Serving serving
    cdef public ListenerStats stats
    cdef public bint stopped
    cdef public dict streams
    cdef public object transport
    cdef public Py_ssize_t unsent
    cdef public double write_limit

    cpdef prepare(self, Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin)
    @cython.locals(settings=ListenerSettings)
    cpdef connection_made(self, object transport)
    @cython.locals(exchange=Exchange)
    cpdef data_received(self, bytes data)
    cpdef connection_lost(self, object exc)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    @cython.locals(stream=Http2Stream)
    cpdef on_request(self, int number, tuple fields, bint ended)
    @cython.locals(exchange=Exchange)
    cpdef begin(self, Http2Stream stream, RequestHead head)
    cpdef refuse(self, Http2Stream stream, int status, str reason)
    @cython.locals(stream=Http2Stream)
    cpdef on_data(self, int number, bytes data, bint ended)
    @cython.locals(stream=Http2Stream)
    cpdef on_trailers(self, int number, tuple fields)
    cpdef begin_late(self, Http2Stream stream)
    @cython.locals(stream=Http2Stream)
    cpdef on_stream_closed(self, int number, unsigned int code, bint ours)
    cpdef on_window(self, int number)
    cpdef on_pong(self)
    cpdef on_goaway(self)
    @cython.locals(data=bytes)
    cpdef push(self)
    cpdef look_for_room(self)
    cpdef look_at_writing(self, double now)
    cpdef drain(self)
    cpdef leave(self)
    cpdef finish(self)
    cpdef stop(self)
    cpdef close_streams(self)
    cpdef reset(self)
    cpdef on_server_down(self, Server server)
    cpdef give_notice(self)
    cpdef cut(self)


@cython.locals(connection=Http2Connection)
cpdef Http2Connection new_connection(
    Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin
)
