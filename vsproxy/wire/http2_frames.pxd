cimport cython

cdef int _DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION
cdef int _ACK, _END_STREAM, _END_HEADERS, _PADDED, _PRIORITIZED
cdef Py_ssize_t _HEAD, _STREAM_BITS, _EMPTY_WEIGHT, _PREFACE_SIZE
cdef bytes _PREFACE, _WEIGHTS
cdef Py_ssize_t _MAX_FRAME, _MAX_BLOCK, _MAX_CONTINUATIONS, _MAX_EMPTY
cdef Py_ssize_t _BURST, _RATE, _MAX_CREDIT, _PER_REQUEST, _PER_DATA, _PER_PIECE, _SENT_PER_FRAME
cdef Py_ssize_t _MAX_OVERHEAD, _RATIO, _OVERHEAD_RATE, _MAX_OVERHEAD_CREDIT
cdef Py_ssize_t _LARGE_INCREMENT, _MAX_OPEN, _ANSWERS

@cython.locals(length=Py_ssize_t, kind=int, flags=int, extra=Py_ssize_t)
cpdef Py_ssize_t wanted(const unsigned char *data, Py_ssize_t pos, Py_ssize_t size) except -1


cdef class FrameCheck:
    cdef public int error
    cdef public str reason
    cdef public Py_ssize_t update_stream
    cdef public Py_ssize_t update_increment
    cdef public Py_ssize_t _preface
    cdef public bytes _head
    cdef public Py_ssize_t _left
    cdef public Py_ssize_t _block
    cdef public Py_ssize_t _block_size
    cdef public Py_ssize_t _continuations
    cdef public Py_ssize_t _last
    cdef public Py_ssize_t _gap_start
    cdef public Py_ssize_t _gap_end
    cdef public set _open
    cdef public Py_ssize_t _floor
    cdef public Py_ssize_t _empty
    cdef public Py_ssize_t _credit
    cdef public Py_ssize_t _overhead
    cdef public double _time

    @cython.locals(size=Py_ssize_t, pos=Py_ssize_t, need=Py_ssize_t)
    cpdef Py_ssize_t check(self, bytes data, double now=*) except -1
    cpdef sent(self, Py_ssize_t size)
    @cython.locals(seconds=Py_ssize_t)
    cpdef forgive(self, double now)
    cpdef fail(self, int error, str reason)
    @cython.locals(pos=Py_ssize_t, preface="const unsigned char *")
    cpdef Py_ssize_t take_preface(self, const unsigned char *data, Py_ssize_t size) except -1
    @cython.locals(pos=Py_ssize_t, need=Py_ssize_t, head=bytes)
    cpdef Py_ssize_t finish_head(self, bytes data, Py_ssize_t size) except -1
    @cython.locals(length=Py_ssize_t, kind=int, flags=int, stream=Py_ssize_t, content=Py_ssize_t)
    cpdef take_head(self, const unsigned char *data, Py_ssize_t pos, Py_ssize_t need)
    cpdef take_data(self, Py_ssize_t stream, int flags, Py_ssize_t content)
    @cython.locals(content=Py_ssize_t)
    cpdef Py_ssize_t take_headers(
        self, const unsigned char *data, Py_ssize_t pos, Py_ssize_t stream, int flags, Py_ssize_t length
    ) except? -1
    cpdef Py_ssize_t depends_on(self, const unsigned char *data, Py_ssize_t pos) except -1
    cpdef take_stream(self, Py_ssize_t stream, int flags)
    cpdef take_block(self)
    cpdef take_continuation(self, int flags, Py_ssize_t length)
    @cython.locals(weights="const unsigned char *")
    cpdef take_control(
        self, const unsigned char *data, Py_ssize_t pos, int kind, int flags, Py_ssize_t stream, Py_ssize_t length
    )
    cpdef take_empty(self)
