cimport cython

from vsproxy.wire.fields cimport HeadParser, known_field
from vsproxy.wire.message cimport RequestHead, field_end, field_start
from vsproxy.wire.syntax cimport (
    http_minor, is_host, is_version, lists_trailers, part, same_name, skip_blanks, trim_blanks
)

cdef bytes _CLASSES
cdef int _TOKEN, _TARGET, _PATH
cdef int _HOST, _UPGRADE, _TE, _EXPECT, _UNDERSCORED
cdef int _REFERER, _USER_AGENT
cdef int _X_FORWARDED_FOR, _X_FORWARDED_PROTO, _X_FORWARDED_HOST, _X_REAL_IP, _FORWARDED, _CLIENT_CERT
cdef Py_ssize_t _LONGEST_METHOD, _LINE_ROOM
cdef RequestHead _NO_REQUEST


cdef class RequestParser(HeadParser):
    cdef public Py_ssize_t _max_target
    cdef public bint _keep_underscores
    cdef public bint _blank_seen
    cdef public bytes _authority
    cdef public RequestHead _head

    cpdef prepare(self, Py_ssize_t max_head, Py_ssize_t max_fields, Py_ssize_t max_target, bint keep_underscores)
    @cython.locals(head=RequestHead)
    cpdef RequestHead parse(self, bytes data, Py_ssize_t pos)
    cpdef Py_ssize_t start_line(self, bytes data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.locals(
        buf="const unsigned char *",
        table="const unsigned char *",
        i=Py_ssize_t,
        method_end=Py_ssize_t,
        target=Py_ssize_t,
        path_end=Py_ssize_t,
        stop=Py_ssize_t,
        minor=int,
        head=RequestHead,
    )
    cpdef Py_ssize_t request_line(self, bytes data, Py_ssize_t start, Py_ssize_t size) except -1
    @cython.locals(cut=Py_ssize_t, version=Py_ssize_t)
    cpdef Py_ssize_t bad_request_line(self, bytes data, Py_ssize_t start, Py_ssize_t size) except -1
    @cython.locals(head=RequestHead, rest=Py_ssize_t, target=bytes, question=Py_ssize_t)
    cpdef take_other_target(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(left=Py_ssize_t, right=Py_ssize_t, head=RequestHead)
    cpdef bint take(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t name_end, Py_ssize_t end) except -1
    @cython.locals(head=RequestHead, offset=Py_ssize_t)
    cpdef note(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t name_end, Py_ssize_t end)
    @cython.locals(head=RequestHead, fields=bytes)
    cpdef note_again(self)
    @cython.locals(head=RequestHead, earlier=bytes)
    cpdef take_forwarding(self, int kind, bytes value)
    @cython.locals(name=bytes, head=RequestHead)
    cpdef bint take_underscored(self, bytes data, Py_ssize_t start, Py_ssize_t name_end) except -1


@cython.locals(parser=RequestParser)
cpdef RequestParser new_request_parser(
    Py_ssize_t max_head, Py_ssize_t max_fields, Py_ssize_t max_target, bint keep_underscores
)
cpdef int request_body_mode(RequestHead head) except -1
