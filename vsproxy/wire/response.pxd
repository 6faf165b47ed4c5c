cimport cython

from vsproxy.wire.fields cimport HeadParser, known_field
from vsproxy.wire.message cimport ResponseHead
from vsproxy.wire.syntax cimport decimal, element_end, http_minor, part, same_name, skip_blanks, trim_blanks

cdef bytes _CLASSES
cdef int _VALUE
cdef int _CONTENT_LENGTH, _KEEP_ALIVE, _UPGRADE
cdef ResponseHead _NO_RESPONSE


cdef class ResponseParser(HeadParser):
    cdef public ResponseHead _head

    @cython.locals(head=ResponseHead)
    cpdef ResponseHead parse(self, bytes data, Py_ssize_t pos)
    @cython.locals(
        buf="const unsigned char *",
        table="const unsigned char *",
        code=Py_ssize_t,
        stop=Py_ssize_t,
        head=ResponseHead,
    )
    cpdef Py_ssize_t start_line(self, bytes data, Py_ssize_t pos, Py_ssize_t size) except -1
    cpdef Py_ssize_t bad_status_line(self, bytes data, Py_ssize_t start, Py_ssize_t size) except -1
    @cython.locals(left=Py_ssize_t, right=Py_ssize_t)
    cpdef bint take(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t name_end, Py_ssize_t end) except -1


@cython.locals(comma=Py_ssize_t)
cpdef double keepalive_timeout(bytes data, Py_ssize_t start, Py_ssize_t end) except -2.0
@cython.locals(status=int, mode=int)
cpdef int response_body_mode(ResponseHead head, bytes method) except -1
