from vsproxy.downstream.connection cimport ClientConnection
from vsproxy.exchange cimport Exchange
from vsproxy.wire.body cimport BodyReader
from vsproxy.wire.http1 cimport RequestParser
from vsproxy.wire.message cimport RequestHead, ResponseHead
import cython

cdef double _NEVER
cdef int _IDLE, _HEAD, _BODY, _RESPONSE, _LINGER, _TUNNEL
cdef Py_ssize_t _DRAIN_SIZE


cdef class DownstreamConnection(ClientConnection):
    cdef public BodyReader body
    cdef public bint chunked
    cdef public bint discarding
    cdef public bint framed
    cdef public bytes held
    cdef public RequestParser parser
    cdef public bint running

    cpdef data_received(self, bytes data)
    cpdef bint eof_received(self) except *
    @cython.locals(pos=Py_ssize_t, size=Py_ssize_t, head=RequestHead)
    cpdef run(self, bytes data)
    @cython.locals(body=BodyReader, payload=bytes, exchange=Exchange)
    cpdef Py_ssize_t take_body(self, bytes data, Py_ssize_t pos) except -1
    @cython.locals(mode=int, exchange=Exchange)
    cpdef begin(self, RequestHead head)
    cpdef on_exchange_over(self, Exchange exchange)
    cpdef next_request(self)
    cpdef bint can_drain(self, RequestHead request) except *
