cdef tuple _BOUNDS

cdef class Histogram:
    cdef public list counts
    cdef public double total

    cpdef observe(self, double seconds)
