import cython


cdef class Descriptors:
    cdef public Py_ssize_t _low
    cdef public list _waiting
    cdef public Py_ssize_t capacity
    cdef public Py_ssize_t taken

    cpdef take(self)
    cpdef give_back(self)
