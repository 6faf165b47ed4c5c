from vsproxy.wire.message cimport RequestHead, ResponseHead, field_start

cdef bytes _VIA_LINE, _VIA_2_LINE, _CHUNKED_LINE
cdef Py_ssize_t _MAX_KNOWN


cdef class Forwarding:
    cdef public bytes client_cert
    cdef public bytes constant
    cdef public bint forwarded
    cdef public bytes known
    cdef public bytes known_host
    cdef public bytes known_upstream_host
    cdef public tuple networks
    cdef public str peer
    cdef public bytes scheme
    cdef public bint trusted
    cdef public bint via

    cpdef str client(self, RequestHead head)
    cpdef bytes lines(self, RequestHead head, bytes upstream_host)
    cpdef bytes kept_lines(self, RequestHead head)
    cpdef bytes forwarded_line(self, RequestHead head)


cpdef bytes request_lines(RequestHead head, bytes host, Forwarding forwarding, bytes request_id, bytes upgrade)
cpdef bytes response_lines(
    ResponseHead head, bint chunked, bint keep_alive, int client_minor, bint via, bytes hsts, bytes body
)
cpdef bytes interim_lines(ResponseHead head)
