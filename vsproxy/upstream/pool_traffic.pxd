from vsproxy.histogram cimport Histogram
from vsproxy.timers cimport Timed
from vsproxy.upstream.balancer cimport Balancer
from vsproxy.upstream.keepalive cimport Keepalive
from vsproxy.upstream.server cimport Server
from vsproxy.upstream.waiting cimport WaitingLine
from vsproxy.wire.message cimport RequestHead


cdef class PoolTraffic(Timed):
    cdef public Balancer balancer
    cdef public double connect_timeout
    cdef public Histogram duration
    cdef public bint hashing
    cdef public str introduces
    cdef public Keepalive keepalive
    cdef public str name
    cdef public Py_ssize_t no_server
    cdef public WaitingLine queue
    cdef public Py_ssize_t queue_timeouts
    cdef public double read_timeout
    cdef public frozenset retry_causes
    cdef public bytes retry_statuses
    cdef public double retry_timeout
    cdef public double send_timeout
    cdef public list statuses
    cdef public object tls
    cdef public Py_ssize_t tries
    cdef public Py_ssize_t up_count

    cpdef key_of(self, RequestHead head, str client)
    cpdef on_failure(self, Server server, str kind)
    cpdef bint enqueue(self, object exchange) except *
    cpdef wake(self)
