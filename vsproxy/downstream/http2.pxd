from vsproxy.downstream.http2_life cimport Http2Life
from vsproxy.downstream.http2_stream cimport Http2Stream
from vsproxy.downstream.serving cimport ListenerSettings, Serving, answer_here
from vsproxy.exchange cimport Exchange
from vsproxy.listener_stats cimport ListenerStats
from vsproxy.wire.http2_head cimport Http2HeadReader, trailer_lines
from vsproxy.wire.message cimport RequestHead
import cython

cdef double _NEVER
cdef int _NO_ERROR
cdef Py_ssize_t _MAX_HEADS


cdef class Http2Connection(Http2Life):
    cdef public list beginning
    cdef public Py_ssize_t heads
    cdef public Http2HeadReader reader
    cdef public bytes rest
    cdef public list waiting

    cpdef prepare(self, Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin)
    cpdef data_received(self, bytes data)
    @cython.locals(rest=bytes, beginning=list)
    cpdef take(self, bytes data)
    @cython.locals(exchange=Exchange)
    cpdef start(self, list exchanges)
    @cython.locals(rest=bytes)
    cpdef take_rest(self)
    @cython.locals(stream=Http2Stream)
    cpdef on_request(self, int stream_id, tuple fields, bint ended)
    @cython.locals(exchange=Exchange)
    cpdef begin(self, Http2Stream stream, RequestHead head)
    cpdef refuse(self, Http2Stream stream, int status, str reason)
    @cython.locals(stream=Http2Stream)
    cpdef on_data(self, int stream_id, bytes data, bint ended)
    @cython.locals(stream=Http2Stream)
    cpdef on_trailers(self, int stream_id, tuple fields)
    cpdef begin_late(self, Http2Stream stream)
    @cython.locals(stream=Http2Stream)
    cpdef on_stream_closed(self, int stream_id, unsigned int code, bint ours)


@cython.locals(connection=Http2Connection)
cpdef Http2Connection new_connection(
    Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin, object ends=*
)
