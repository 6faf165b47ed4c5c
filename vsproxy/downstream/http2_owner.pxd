from vsproxy.downstream.serving cimport ListenerSettings
from vsproxy.stream cimport ExchangeEvents
from vsproxy.timers cimport Sweep, Timed
from vsproxy.wire.http2 cimport Http2Session


cdef class StreamOwner(Timed):
    cdef public set ending
    cdef public set full
    cdef public Http2Session session
    cdef public ListenerSettings settings
    cdef public Py_ssize_t spare_window
    cdef public Sweep sweep
    cdef public bint writing_paused

    cpdef flush(self)
    cpdef flush_soon(self)
    cpdef push(self)
    cpdef note_over(self, ExchangeEvents exchange)
    cpdef introduction(self, str version)
    cpdef note_stalled(self)
