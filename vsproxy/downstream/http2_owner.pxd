from vsproxy.downstream.serving cimport ListenerSettings
from vsproxy.stream cimport ExchangeEvents
from vsproxy.timers cimport Sweep
from vsproxy.wire.http2 cimport Http2Session
from vsproxy.wire.http2_handler cimport Http2Handler


cdef class StreamOwner(Http2Handler):
    cdef public set ending
    cdef public set full
    cdef public bint pressed
    cdef public Py_ssize_t queued_most
    cdef public Http2Session session
    cdef public ListenerSettings settings
    cdef public Py_ssize_t spare_window
    cdef public Sweep sweep
    cdef public bint writing_paused

    cpdef flush(self)
    cpdef flush_soon(self)
    cpdef push(self)
    cpdef look_at_total(self)
    cpdef bint has_room(self, int number) except *
    cpdef note_over(self, ExchangeEvents exchange)
    cpdef introduction(self, str version)
    cpdef note_stalled(self)
