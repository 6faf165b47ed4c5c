cimport cython

cdef bytes _CLASSES, _LOWER
cdef int _TOKEN, _VALUE, _HOST, _IPV6
cdef Py_ssize_t _MAX_TENTH, _MAX_LAST_DIGIT

@cython.locals(table="const unsigned char *", i=Py_ssize_t)
cpdef bint all_of(const unsigned char *data, Py_ssize_t start, Py_ssize_t end, int classes) except -1
@cython.locals(table="const unsigned char *", i=Py_ssize_t)
cpdef bint same_name(
    const unsigned char *data, Py_ssize_t start, Py_ssize_t end, const unsigned char *name, Py_ssize_t length
) except -1
cpdef bytes part(const unsigned char *data, Py_ssize_t start, Py_ssize_t end)
cpdef Py_ssize_t skip_blanks(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1
cpdef Py_ssize_t trim_blanks(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1
cpdef Py_ssize_t element_end(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(value=Py_ssize_t, i=Py_ssize_t, digit=int)
cpdef Py_ssize_t decimal(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -2
cpdef int hex_digit(unsigned char byte) except -2
@cython.locals(comma=Py_ssize_t)
cpdef bint lists_trailers(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1
cpdef bint is_version(const unsigned char *data, Py_ssize_t start) except -1
cpdef int http_minor(const unsigned char *data, Py_ssize_t start) except -2
@cython.locals(i=Py_ssize_t, colons=Py_ssize_t, port_digits=Py_ssize_t)
cpdef bint is_host(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(i=Py_ssize_t)
cpdef Py_ssize_t field_name_end(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -2
@cython.locals(i=Py_ssize_t)
cpdef bint is_chunk_extension(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(i=Py_ssize_t)
cpdef Py_ssize_t token_end(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -2
@cython.locals(i=Py_ssize_t)
cpdef Py_ssize_t quoted_end(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -2
@cython.locals(byte=int)
cpdef str bad_line_reason(bytes data, Py_ssize_t start, Py_ssize_t stop)
