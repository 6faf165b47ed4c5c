from vsproxy.wire.http2_frames cimport FrameCheck
from vsproxy.wire.http2_handler cimport Http2Handler
import cython

cdef int _NO_ERROR
cdef double _FAULTS, _FAULTS_PER_SECOND
cdef Py_ssize_t _WINDOW_UPDATE_SIZE, _MOST_CREDIT, _TURN, _LARGE_UPDATES
cdef object _REQUEST, _DATA, _TRAILERS, _CLOSED, _WINDOW, _PONG, _RESET, _GOAWAY, _OVER, _SETTINGS, _SERVER, _FAILURES


cdef class Http2Session:
    cdef public int code
    cdef public object connection
    cdef public bint cut
    cdef public bint failed
    cdef public double faults
    cdef public double faults_at
    cdef public bint finished
    cdef public FrameCheck frames
    cdef public int last_stream
    cdef public str reason
    cdef public set resets
    cdef public bytes rest
    cdef public bint unsettled

    @cython.locals(frames=FrameCheck, good=Py_ssize_t, updates=Py_ssize_t)
    cpdef bytes receive(self, bytes data, double now, Http2Handler handler)
    cpdef pass_on(self, bytes data, Http2Handler handler)
    @cython.locals(frames=FrameCheck, window=Py_ssize_t, after=Py_ssize_t)
    cpdef bytes update_window(self, bytes data, Py_ssize_t at, Http2Handler handler)
    cpdef deliver(self, Http2Handler handler)
    cpdef bint note_closed(self, int stream_id) except *
    cpdef note_over(self, unsigned int code)
    cpdef bytes output(self, Py_ssize_t most)
    cpdef respond(self, int stream_id, list fields, bint ended)
    cpdef interim(self, int stream_id, list fields)
    cpdef send(self, int stream_id, bytes data, bint ended)
    cpdef send_trailers(self, int stream_id, list fields)
    cpdef Py_ssize_t queued(self, int stream_id) except -1
    cpdef Py_ssize_t queued_of_all(self) except -1
    @cython.locals(of_stream=Py_ssize_t, of_all=Py_ssize_t)
    cpdef Py_ssize_t credit(self, int stream_id) except? -1
    cpdef reset(self, int stream_id, int code)
    cpdef share(self, int stream_id)
    cpdef consume(self, int stream_id, Py_ssize_t amount)
    cpdef widen(self, int stream_id, Py_ssize_t window)
    cpdef notice(self)
    cpdef leave(self)
    cpdef end(self, int code, str reason)
    cpdef give_up(self, object error)
    cpdef pass_over(self, object error)
