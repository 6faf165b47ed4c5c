from vsproxy cimport sockets
from vsproxy.relay cimport Relay, Source
from vsproxy.sender cimport Sender
from vsproxy.timers cimport Sweep, Timed
import cython


cdef Py_ssize_t _CALM


cdef class TunnelEnd(Source):
    cdef public Py_ssize_t calm
    cdef public bint ended
    cdef public bint full
    cdef public bint lost
    cdef public Py_ssize_t moved
    cdef public TunnelEnd peer
    cdef public Relay relay
    cdef public Sender sender
    cdef public object transport
    cdef public Tunnel tunnel

    @cython.locals(peer=TunnelEnd, tunnel=Tunnel)
    cpdef data_received(self, bytes data)
    @cython.locals(count=Py_ssize_t, sender=Sender, sent=Py_ssize_t, tunnel=Tunnel)
    cpdef bint on_readable(self, bytearray buffer) except -1
    cpdef on_unusual(self)
    cpdef on_failure(self)
    @cython.locals(relay=Relay)
    cpdef start_relay(self)
    cpdef stop_relay(self)
    @cython.locals(peer=TunnelEnd)
    cpdef bint eof_received(self) except *
    cpdef connection_lost(self, object exc)
    @cython.locals(peer=TunnelEnd)
    cpdef pause_writing(self)
    @cython.locals(peer=TunnelEnd)
    cpdef resume_writing(self)
    cpdef write(self, bytes data)
    cpdef close(self)
    cpdef abort(self)
    cpdef leave_peer(self)


cdef class Tunnel(Timed):
    cdef public TunnelEnd downstream
    cdef public object on_closed
    cdef public Sweep sweep
    cdef public bint timed_out
    cdef public double timeout
    cdef public TunnelEnd upstream

    cpdef touch(self)
    cpdef shut(self)
    cpdef cut(self)
    cpdef on_end_lost(self)
