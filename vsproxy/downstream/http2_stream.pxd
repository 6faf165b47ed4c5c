from vsproxy.downstream.http2_flow cimport StreamFlow
from vsproxy.downstream.http2_owner cimport StreamOwner
from vsproxy.downstream.serving cimport ListenerSettings
from vsproxy.exchange cimport Exchange
from vsproxy.stream cimport ExchangeEvents
from vsproxy.wire.http2_head cimport interim_fields, opened_fields, response_fields, trailer_fields
from vsproxy.wire.message cimport ResponseHead, field_value, make_response
import cython

cdef int _NO_ERROR, _INTERNAL_ERROR, _CANCEL


cdef class Http2Stream(StreamFlow):
    cdef public Exchange exchange
    cdef public Py_ssize_t head_size
    cdef public ResponseHead held
    cdef public bytes last_piece
    cdef public bytes method
    cdef public Py_ssize_t missing
    cdef public bytes protocol
    cdef public bint refused_switch
    cdef public object transport
    cdef public bint waits

    cpdef prepare(self, StreamOwner owner, int number, bint receiving)
    @cython.locals(exchange=Exchange)
    cpdef on_data(self, bytes data, bint ended)
    @cython.locals(exchange=Exchange)
    cpdef on_trailers(self, bytes lines)
    cpdef take_for_tunnel(self, bytes data, bint ended)
    @cython.locals(exchange=Exchange)
    cpdef on_closed(self, bint failed)
    @cython.locals(head=ResponseHead, settings=ListenerSettings)
    cpdef release_head(self, bint ended)
    @cython.locals(ended=bint, held=ResponseHead)
    cpdef send_body(self, bytes data)
    cpdef answer(self, int status, str reason)
    cpdef leave(self)
    cpdef finish_if_sent(self)
    cpdef end_tunnel(self)
    cpdef leave_tunnel(self)
    cpdef cancel(self)
