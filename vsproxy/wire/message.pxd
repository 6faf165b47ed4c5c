cimport cython

from vsproxy.wire.syntax cimport part, same_name, skip_blanks, trim_blanks


cdef class RequestHead:
    cdef public bytes line
    cdef public bytes method
    cdef public bytes target
    cdef public bytes path
    cdef public bytes host
    cdef public int minor
    cdef public bytes fields
    cdef public Py_ssize_t referer
    cdef public Py_ssize_t referer_end
    cdef public Py_ssize_t user_agent
    cdef public Py_ssize_t user_agent_end
    cdef public Py_ssize_t content_length
    cdef public bytes length
    cdef public bint chunked
    cdef public bint keep_alive
    cdef public bint expect_continue
    cdef public bytes upgrade
    cdef public bint upgrade_requested
    cdef public bint te_trailers
    cdef public bytes x_forwarded_for
    cdef public bytes x_forwarded_proto
    cdef public bytes x_forwarded_host
    cdef public bytes x_real_ip
    cdef public bytes x_request_id
    cdef public bytes forwarded
    cdef public bytes client_cert
    cdef public list dropped_underscores

    cpdef clear(self)


cdef class ResponseHead:
    cdef public bytes line
    cdef public int status
    cdef public bytes reason
    cdef public int minor
    cdef public bytes fields
    cdef public Py_ssize_t content_length
    cdef public bytes length
    cdef public bint chunked
    cdef public bint keep_alive
    cdef public bint promises_keep_alive
    cdef public bytes upgrade
    cdef public double keepalive_timeout
    cdef public int body_mode

    cpdef clear(self)


cpdef ResponseHead make_response(int status, bytes fields, bytes body)
@cython.locals(buf="const unsigned char *", end=Py_ssize_t, start=Py_ssize_t, colon=Py_ssize_t)
cpdef Py_ssize_t field_start(bytes fields, bytes name, Py_ssize_t length) except -2
@cython.locals(buf="const unsigned char *", end=Py_ssize_t)
cpdef Py_ssize_t field_end(bytes fields, Py_ssize_t start) except -1
@cython.locals(start=Py_ssize_t, end=Py_ssize_t)
cpdef bytes field_value(bytes fields, bytes name)
