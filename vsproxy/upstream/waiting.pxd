cdef class WaitingLine:
    cdef object _items
    cdef public Py_ssize_t size

    cpdef join(self, object exchange, double until)
    cpdef leave(self, object exchange)
    cpdef first(self)
    cpdef next(self)
    cpdef double until(self) except -1.0
    cpdef take_overdue(self, double now)
