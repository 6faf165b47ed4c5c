cimport cython

from vsproxy.wire.syntax cimport field_name_end, hex_digit, is_chunk_extension, part

cdef int _NONE, _LENGTH, _CHUNKED, _UNTIL_CLOSE
cdef Py_ssize_t _MAX_CHUNK, _MAX_DIGITS, _MAX_LINE, _MAX_EXTENSIONS, _MAX_TRAILERS, _MAX_TRAILER_FIELDS, _QUICK_DIGITS
cdef int _SIZE, _DATA, _DATA_CR, _DATA_LF, _TRAILER

cpdef bytes chunk_start(Py_ssize_t size)
cpdef bytes chunk_end(bint last, bytes trailers)


cdef class BodyReader:
    cdef public Py_ssize_t pos
    cdef public bint done
    cdef public Py_ssize_t remaining
    cdef public bytes trailers
    cdef public int _error_status
    cdef public int _mode
    cdef public int _state
    cdef public bytearray _line
    cdef public Py_ssize_t _extensions
    cdef public Py_ssize_t _trailer_size
    cdef public Py_ssize_t _trailer_count

    cpdef prepare(self, int error_status)
    cpdef start(self, int mode, Py_ssize_t length)
    @cython.locals(size=Py_ssize_t, count=Py_ssize_t)
    cpdef bytes feed(self, bytes data, Py_ssize_t pos)
    cpdef Py_ssize_t plain_rest(self) except -1
    cpdef bint eof(self) except -1
    @cython.locals(first=bytes, piece=bytes, pieces=list, state=int, count=Py_ssize_t, end=Py_ssize_t)
    cpdef bytes feed_chunked(self, bytes data, Py_ssize_t pos, Py_ssize_t size)
    @cython.locals(value=Py_ssize_t, i=Py_ssize_t, end=Py_ssize_t, digit=int)
    cpdef Py_ssize_t quick_size(self, const unsigned char *data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.locals(limit=Py_ssize_t, held=Py_ssize_t, cut=Py_ssize_t, line=bytes)
    cpdef Py_ssize_t feed_line(self, bytes data, Py_ssize_t pos, Py_ssize_t size) except -1
    cpdef take_line(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(value=Py_ssize_t, i=Py_ssize_t, digit=int)
    cpdef take_size(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(name=bytes, name_end=Py_ssize_t)
    cpdef take_trailer(self, bytes data, Py_ssize_t start, Py_ssize_t end)


@cython.locals(reader=BodyReader)
cpdef BodyReader new_body_reader(int error_status)
