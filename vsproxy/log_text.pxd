cimport cython

cdef Py_ssize_t _LONGEST_ESCAPE, _MOST_DIGITS
cdef double _MICROSECONDS

cpdef Py_ssize_t room_for(Py_ssize_t size) except -1
@cython.locals(source="const unsigned char *", size=Py_ssize_t, i=Py_ssize_t)
cpdef Py_ssize_t put(unsigned char *buf, Py_ssize_t at, bytes data) except -1
@cython.locals(special="unsigned char", byte="unsigned char", i=Py_ssize_t)
cpdef bint is_plain(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(source="const unsigned char *", i=Py_ssize_t)
cpdef Py_ssize_t put_text(
    unsigned char *buf, Py_ssize_t at, bytes data, Py_ssize_t start, Py_ssize_t end, list escapes
) except -1
@cython.locals(rest="unsigned long long", end=Py_ssize_t, i=Py_ssize_t)
cpdef Py_ssize_t put_number(unsigned char *buf, Py_ssize_t at, unsigned long long number) except -1
cpdef Py_ssize_t put_three_digits(unsigned char *buf, Py_ssize_t at, unsigned int number) except -1
@cython.locals(micros="unsigned long long")
cpdef Py_ssize_t put_milliseconds(unsigned char *buf, Py_ssize_t at, double seconds) except -1
