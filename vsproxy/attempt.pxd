from cpython cimport time

from vsproxy.headers cimport Forwarding, request_lines
from vsproxy.routing cimport Route
from vsproxy.stream cimport Downstream, ExchangeEvents
from vsproxy.timers cimport Sweep
from vsproxy.upstream.http1 cimport UpstreamConnection
from vsproxy.upstream.pool_traffic cimport PoolTraffic
from vsproxy.upstream.server cimport Server
from vsproxy.wire.message cimport RequestHead, ResponseHead
import cython

cdef object _IDEMPOTENT


cdef class Attempt(ExchangeEvents):
    cdef public double assigned
    cdef public double began
    cdef public bint body_consumed
    cdef public Py_ssize_t bytes_in
    cdef public Py_ssize_t bytes_out
    cdef public double connected
    cdef public object connecting
    cdef public object download
    cdef public Downstream downstream
    cdef public bint downstream_full
    cdef public double first_byte
    cdef public Forwarding forwarding
    cdef public bint fresh
    cdef public RequestHead head
    cdef public object key
    cdef public Server last_server
    cdef public str outcome
    cdef public bint over
    cdef public list pending
    cdef public PoolTraffic pool
    cdef public bint queued
    cdef public bint request_done
    cdef public bytes request_id
    cdef public bint response_begun
    cdef public Route route
    cdef public double sent
    cdef public Server server
    cdef public int status
    cdef public bint started
    cdef public Sweep sweep
    cdef public bytes trailers
    cdef public list tried
    cdef public Py_ssize_t tries
    cdef public object tunnel
    cdef public bytes upgrade
    cdef public object upload
    cdef public UpstreamConnection upstream

    cpdef prepare(
        self, Downstream downstream, RequestHead head, Route route, Forwarding forwarding, bytes request_id, Sweep sweep
    )
    cpdef reject(self, str kind)
    @cython.locals(pool=PoolTraffic, server=Server)
    cpdef dispatch(self)
    cpdef on_server(self, Server server)
    cpdef on_no_server(self, str reason)
    @cython.locals(connection=UpstreamConnection)
    cpdef reach(self)
    @cython.locals(head=RequestHead, pool=PoolTraffic, server=Server, lines=bytes)
    cpdef send(self, UpstreamConnection connection)
    @cython.locals(pending=list, data=bytes)
    cpdef send_pending(self, UpstreamConnection connection, bytes lines)
    @cython.locals(route=Route)
    cpdef bytes upstream_host(self)
    cpdef bint is_repeatable(self) except *
    cpdef on_connect_failed(self)
    cpdef on_server_down(self, Server server)
    cpdef bint may_move_on(self) except *
    cpdef bint has_tries(self) except *
    cpdef move_on_from(self, Server server, str kind)
    cpdef leave_server(self)
    @cython.locals(pool=PoolTraffic)
    cpdef release(self, Server server)
