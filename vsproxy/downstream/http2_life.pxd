from vsproxy.downstream.http2_owner cimport StreamOwner
from vsproxy.downstream.http2_stream cimport Http2Stream
from vsproxy.downstream.serving cimport ListenerSettings, Serving
from vsproxy.headers cimport Forwarding
from vsproxy.listener_stats cimport ListenerStats
from vsproxy.sender cimport Sender, new_sender
from vsproxy.stream cimport ExchangeEvents
from vsproxy.upstream.server cimport Server
from vsproxy.wire.http2 cimport Http2Session
import cython

cdef double _NEVER
cdef int _NO_ERROR, _CALM
cdef Py_ssize_t _OUTPUT
cdef double _NOTICE_TIME, _LOOK_TIME
cdef double _LAST_WORDS
cdef Py_ssize_t _LINGERING
cdef Py_ssize_t _READ, _WORTH, _ALL_HIGH, _ALL_LOW, _MOST_QUEUED
cdef int _STAYING, _NOTICED, _LEFT


cdef class Http2Life(StreamOwner):
    cdef public int descriptor
    cdef public int end
    cdef public object ends
    cdef public bint flush_due
    cdef public bint flushing
    cdef public Forwarding forwarding
    cdef public double idle_limit
    cdef public object introductions
    cdef public object loop
    cdef public double notice_limit
    cdef public bytes origin
    cdef public Py_ssize_t requests
    cdef public Sender sender
    cdef public Serving serving
    cdef public ListenerStats stats
    cdef public bint stopped
    cdef public dict streams
    cdef public object transport
    cdef public Py_ssize_t unsent
    cdef public double write_limit

    cpdef prepare_life(
        self, Serving serving, ListenerSettings settings, ListenerStats stats, int descriptor, bytes origin
    )
    @cython.locals(settings=ListenerSettings)
    cpdef connection_made(self, object transport)
    cpdef connection_lost(self, object exc)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    @cython.locals(data=bytes)
    cpdef push(self)
    cpdef look_for_room(self)
    cpdef on_relief(self)
    cpdef look_at_writing(self, double now)
    cpdef drain(self)
    cpdef leave(self)
    cpdef finish(self)
    cpdef stop(self)
    cpdef close_streams(self)
    cpdef reset(self)
    cpdef on_server_down(self, Server server)
    cpdef give_notice(self)
    cpdef cut(self)
