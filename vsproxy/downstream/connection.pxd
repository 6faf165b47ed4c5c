from vsproxy.downstream.serving cimport ListenerSettings, Serving
from vsproxy.exchange cimport Exchange
from vsproxy.headers cimport Forwarding
from vsproxy.listener_stats cimport ListenerStats
from vsproxy.sender cimport Sender, new_sender
from vsproxy.stream cimport Downstream
from vsproxy.timers cimport Sweep
from vsproxy.upstream.server cimport Server
import cython

cdef double _NEVER
cdef int _IDLE, _HEAD, _BODY, _RESPONSE, _LINGER, _TUNNEL
cdef double _LINGER_TIME
cdef double _WATCH_TIME
cdef double _LAST_REQUEST_TIME


cdef class ClientConnection(Downstream):
    cdef public bint close_after
    cdef public int descriptor
    cdef public bint end_of_stream
    cdef public object ends
    cdef public Exchange exchange
    cdef public bint expects_more
    cdef public Forwarding forwarding
    cdef public object introductions
    cdef public double limit
    cdef public bytes origin
    cdef public bytes pending
    cdef public bint reading_body
    cdef public bint reading_paused
    cdef public Py_ssize_t requests
    cdef public Sender sender
    cdef public Serving serving
    cdef public ListenerSettings settings
    cdef public ListenerStats stats
    cdef public bint stopped
    cdef public Sweep sweep
    cdef public object transport
    cdef public Py_ssize_t unsent
    cdef public int wait
    cdef public bint writing_paused

    cpdef prepare(self, Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin)
    cpdef bint is_head_begun(self) except *
    cpdef advance(self, bytes data)
    cpdef refuse(self, int status, str reason)
    @cython.locals(settings=ListenerSettings)
    cpdef connection_made(self, object transport)
    cpdef connection_lost(self, object exc)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef set_wait(self, int wait, double seconds)
    cpdef bint is_broken(self) except *
    cpdef introduction(self, str version)
    cpdef hold_reading(self, bint hold)
    cpdef set_reading(self)
    cpdef write(self, bytes data)
    cpdef linger(self)
    cpdef stop(self)
    cpdef reset(self)
    cpdef drain(self)
    cpdef await_last_request(self)
    cpdef on_server_down(self, Server server)
    cpdef give_notice(self)
    cpdef cut(self)
