from vsproxy.downstream.connection cimport ClientConnection
from vsproxy.downstream.serving cimport ListenerSettings, Serving, answer_here
from vsproxy.exchange cimport Exchange
from vsproxy.headers cimport interim_lines, response_lines
from vsproxy.listener_stats cimport ListenerStats
from vsproxy.stream cimport ExchangeEvents
from vsproxy.wire.body cimport BodyReader, chunk_end, chunk_start, new_body_reader
from vsproxy.wire.message cimport RequestHead, ResponseHead, make_response
from vsproxy.wire.request cimport RequestParser, new_request_parser, request_body_mode
import cython

cdef double _NEVER
cdef int _IDLE, _HEAD, _BODY, _RESPONSE, _LINGER, _TUNNEL
cdef Py_ssize_t _DRAIN_SIZE, _MIN_REST, _SMALL_BODY


cdef class DownstreamConnection(ClientConnection):
    cdef public BodyReader body
    cdef public bint chunked
    cdef public bint discarding
    cdef public bint framed
    cdef public ResponseHead held
    cdef public RequestParser parser
    cdef public bint running

    cpdef prepare(self, Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin)
    cpdef data_received(self, bytes data)
    @cython.locals(exchange=Exchange)
    cpdef advance(self, bytes data)
    cpdef bint eof_received(self) except *
    @cython.locals(pos=Py_ssize_t, size=Py_ssize_t, head=RequestHead)
    cpdef run(self, bytes data)
    @cython.locals(body=BodyReader, payload=bytes, exchange=Exchange)
    cpdef Py_ssize_t take_body(self, bytes data, Py_ssize_t pos) except -1
    @cython.locals(
        mode=int, exchange=Exchange, settings=ListenerSettings, serving=Serving
    )
    cpdef begin(self, RequestHead head)
    @cython.locals(request=RequestHead, status=int, bodiless=bint, known=bint)
    cpdef send_head(self, ResponseHead head, bint more)
    @cython.locals(minor=int)
    cpdef bytes head_lines(self, ResponseHead head, bytes body)
    @cython.locals(held=ResponseHead, lines=bytes)
    cpdef send_body(self, bytes data)
    @cython.locals(held=ResponseHead, end=bytes)
    cpdef send_end(self, bytes trailers)
    cpdef next_request(self)
    cpdef bint can_drain(self, RequestHead request) except *


@cython.locals(connection=DownstreamConnection)
cpdef DownstreamConnection new_connection(
    Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin, object ends=*
)
