cimport cython

from vsproxy.wire.message cimport RequestHead, ResponseHead, field_start
from vsproxy.wire.request cimport RequestParser, new_request_parser
from vsproxy.wire.syntax cimport all_of, part

cdef bytes _CLASSES
cdef int _TOKEN, _VALUE
cdef Py_ssize_t _MAX_TRAILERS, _MAX_TRAILER_FIELDS
cdef object _FORBIDDEN_TRAILERS
cdef dict _NAMES
cdef list _STATUSES
cdef tuple _VIA


cdef class Http2HeadReader:
    cdef public bint keep_underscores
    cdef public Py_ssize_t max_fields
    cdef public Py_ssize_t max_head
    cdef public Py_ssize_t max_target
    cdef public RequestParser parser

    @cython.locals(lines=bytes, head=RequestHead)
    cpdef RequestHead read(self, tuple fields, bint ended)


@cython.locals(
    method=bytes, path=bytes, authority=bytes, protocol=bytes, scheme=bytes, host=bytes, cookie=bytes, pieces=list,
    count=Py_ssize_t, name=bytes, value=bytes, head=bytes
)
cpdef bytes head_lines(tuple fields)
@cython.locals(size=Py_ssize_t, refused=bint)
cpdef check_name(bytes name)
@cython.locals(table="const unsigned char *", i=Py_ssize_t)
cpdef bint is_lower(const unsigned char *name, Py_ssize_t size) except -1
cpdef check_target(bytes method, bytes path, bytes scheme, bytes protocol)
cpdef list response_fields(ResponseHead head, bint via, bytes hsts)
cpdef list interim_fields(ResponseHead head)
cpdef list opened_fields(ResponseHead head)
cpdef list trailer_fields(bytes lines)
@cython.locals(
    buf="const unsigned char *", end=Py_ssize_t, start=Py_ssize_t, colon=Py_ssize_t, stop=Py_ssize_t, left=Py_ssize_t,
    right=Py_ssize_t, written=bytes, name=object
)
cpdef add_lines(list fields, bytes lines)
@cython.locals(size=Py_ssize_t, pieces=list, name=bytes, value=bytes)
cpdef bytes trailer_lines(tuple fields)
