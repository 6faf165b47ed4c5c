import cython

cdef int _PRIORITY, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _PRIORITY_UPDATE, _ACK
cdef Py_ssize_t _HEAD, _EMPTY_WEIGHT, _MAX_EMPTY
cdef bytes _WEIGHTS
cdef Py_ssize_t _BURST, _RATE, _MAX_CREDIT, _PER_REQUEST, _PER_DATA, _PER_PIECE, _SENT_PER_FRAME
cdef Py_ssize_t _RESET_BURST, _RESET_RATE
cdef Py_ssize_t _MAX_OVERHEAD, _RATIO, _OVERHEAD_RATE, _MAX_OVERHEAD_CREDIT
cdef Py_ssize_t _ANSWERS, _LONG_AGO


cdef class FloodGuard:
    cdef public double time
    cdef public Py_ssize_t _credit
    cdef public Py_ssize_t _empty
    cdef public Py_ssize_t _overhead
    cdef public Py_ssize_t _resets

    @cython.locals(passed=double, seconds=Py_ssize_t)
    cpdef forgive(self, double now)
    cpdef sent(self, Py_ssize_t size)
    cpdef str frame(self, Py_ssize_t length, Py_ssize_t content)
    cpdef something(self)
    cpdef data(self)
    cpdef block(self)
    @cython.locals(weights="const unsigned char *")
    cpdef str control(self, int kind, int flags)
    cpdef str empty(self)
