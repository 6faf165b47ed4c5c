cimport cython

from vsproxy.wire.syntax cimport (
    all_of, bad_line_reason, decimal, element_end, part, same_name, skip_blanks, trim_blanks
)

cdef bytes _GUESSES, _CLASSES
cdef tuple _KNOWN_NAMES, _CLIENT_CERT_NAMES
cdef Py_ssize_t _LONGEST
cdef int _NAME, _TOKEN, _VALUE
cdef int _CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION, _UPGRADE, _CLIENT_CERT, _UNDERSCORED

@cython.locals(length=Py_ssize_t, kind=int, name=bytes)
cpdef int known_field(bytes data, Py_ssize_t start, Py_ssize_t end) except -1
cpdef bytes without_nominated(bytes fields, list nominated)


cdef class HeadParser:
    cdef public Py_ssize_t end
    cdef public bint started
    cdef public Py_ssize_t _max_head
    cdef public Py_ssize_t _max_fields
    cdef public Py_ssize_t _line_limit
    cdef public int _line_status
    cdef public int _error_status
    cdef public bint _in_fields
    cdef public bint _complete
    cdef public bytearray _line
    cdef public Py_ssize_t _size
    cdef public Py_ssize_t _origin
    cdef public Py_ssize_t _count
    cdef public bytes _lines
    cdef public list _pieces
    cdef public Py_ssize_t _kept
    cdef public Py_ssize_t _run
    cdef public Py_ssize_t _length
    cdef public bytes _length_text
    cdef public bint _chunked
    cdef public bint _close
    cdef public bint _keep_alive
    cdef public bint _upgrade_listed
    cdef public bytes _upgrade
    cdef public list _nominated

    cpdef prepare_fields(self, Py_ssize_t max_head, Py_ssize_t max_fields, int error_status)
    cpdef reset(self)
    cpdef Py_ssize_t start_line(self, bytes data, Py_ssize_t pos, Py_ssize_t size) except -1
    cpdef bint take(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t name_end, Py_ssize_t end) except -1
    @cython.locals(size=Py_ssize_t, cut=Py_ssize_t, stop=Py_ssize_t, line=bytes)
    cpdef bint advance(self, bytes data, Py_ssize_t pos) except -1
    cpdef hold(self, bytes data, Py_ssize_t start, Py_ssize_t size)
    cpdef Py_ssize_t scan(self, bytes data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.locals(
        buf="const unsigned char *",
        table="const unsigned char *",
        guesses="const unsigned char *",
        start=Py_ssize_t,
        i=Py_ssize_t,
        name_end=Py_ssize_t,
        kind=int,
    )
    cpdef Py_ssize_t scan_fields(self, bytes data, Py_ssize_t pos, Py_ssize_t size) except -1
    cpdef keep(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(cut=Py_ssize_t)
    cpdef Py_ssize_t end_of_fields(self, bytes data, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t size) except -1
    cpdef int too_large(self) except -1
    @cython.locals(length=Py_ssize_t)
    cpdef take_framing(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(comma=Py_ssize_t, stop=Py_ssize_t)
    cpdef take_connection(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef bint persists(self, int minor) except -1
    @cython.locals(fields=bytes)
    cpdef bytes end_to_end(self)
    cpdef check_framing(self, int minor)
