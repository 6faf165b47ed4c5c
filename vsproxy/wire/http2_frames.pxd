from vsproxy.wire.http2_floods cimport FloodGuard
import cython

cdef int _DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION
cdef int _ACK, _END_STREAM, _END_HEADERS, _PADDED, _PRIORITIZED
cdef Py_ssize_t _HEAD, _STREAM_BITS, _PREFACE_SIZE
cdef bytes _PREFACE
cdef Py_ssize_t _MAX_FRAME, _MAX_BLOCK, _MAX_CONTINUATIONS, _LARGE_INCREMENT, _MAX_OPEN

@cython.locals(length=Py_ssize_t, kind=int, flags=int, extra=Py_ssize_t)
cpdef Py_ssize_t wanted(const unsigned char *data, Py_ssize_t pos, Py_ssize_t size) except -1


cdef class FrameCheck:
    cdef public int error
    cdef public str reason
    cdef public Py_ssize_t update_stream
    cdef public Py_ssize_t update_increment
    cdef public FloodGuard guard
    cdef public Py_ssize_t _preface
    cdef public bytes _head
    cdef public Py_ssize_t _left
    cdef public Py_ssize_t _block
    cdef public Py_ssize_t _block_size
    cdef public double _block_since
    cdef public bint _heading
    cdef public double _now
    cdef public Py_ssize_t _continuations
    cdef public Py_ssize_t _last
    cdef public Py_ssize_t _gap_start
    cdef public Py_ssize_t _gap_end
    cdef public set _open
    cdef public Py_ssize_t _floor

    @cython.locals(size=Py_ssize_t, pos=Py_ssize_t, need=Py_ssize_t)
    cpdef Py_ssize_t check(self, bytes data, double now=*, Py_ssize_t frames=*) except -1
    cpdef double waiting_since(self) except? -1
    cpdef fail(self, int error, str reason)
    cpdef limit(self, str reason)
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
    cpdef take_continuation(self, int flags, Py_ssize_t length)
    cpdef take_control(
        self, const unsigned char *data, Py_ssize_t pos, int kind, int flags, Py_ssize_t stream, Py_ssize_t length
    )
