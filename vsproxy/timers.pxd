import cython

cdef double _PAUSE

cdef class Timed:
    cdef public double deadline
    cdef public Py_ssize_t sweep_index

    cpdef on_deadline(self, double now)


cdef class Sweep:
    cdef public double now
    cdef list _members
    cdef object _loop
    cdef object _handle

    cpdef start(self)
    cpdef stop(self)
    cpdef add(self, Timed member)
    cpdef remove(self, Timed member)
    cpdef tick(self)
    @cython.locals(member=Timed, found=list)
    cpdef list due(self, double now)
