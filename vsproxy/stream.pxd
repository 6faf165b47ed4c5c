from vsproxy.timers cimport Timed
from vsproxy.wire.message cimport RequestHead, ResponseHead


cdef class Stream(Timed):
    cdef public object splice

    cpdef send_body(self, bytes data)
    cpdef send_end(self, bytes trailers)
    cpdef abort(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)


cdef class ExchangeEvents:
    cpdef on_request_body(self, bytes data)
    cpdef on_request_end(self, bytes trailers)
    cpdef on_request_rest(self, Py_ssize_t rest)
    cpdef on_request_spliced(self, Py_ssize_t count)
    cpdef on_client_gone(self)
    cpdef on_interim(self, ResponseHead head)
    cpdef on_response_head(self, ResponseHead head, bint more)
    cpdef on_response_body(self, bytes data)
    cpdef on_response_rest(self)
    cpdef on_response_spliced(self, Py_ssize_t count)
    cpdef on_response_end(self, bytes trailers)
    cpdef on_upstream_failed(self, str kind)
    cpdef on_downstream_full(self, bint full)
    cpdef on_upstream_full(self, bint full)


cdef class Downstream(Stream):
    cpdef send_head(self, ResponseHead head, bint more)
    cpdef on_exchange_over(self, ExchangeEvents exchange)
    cpdef bint withdraw_head(self) except *
    cpdef introduction(self, str version)
    cpdef tuple splicing(self)
    cpdef on_spliced(self, Py_ssize_t count)
    cpdef on_splice_over(self, bint complete)
    cpdef tuple hand_over(self, ResponseHead head)
    cpdef bint accepts_switch(self, ResponseHead head) except *
    cpdef on_tunnel_closed(self)
    cpdef send_interim(self, ResponseHead head)


cdef class Upstream(Stream):
    cdef public object introduction

    cpdef send_head(self, RequestHead head, bytes lines, bint whole)
