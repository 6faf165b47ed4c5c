import cython

from cpython cimport time

from vsproxy.attempt cimport Attempt
from vsproxy.headers cimport Forwarding
from vsproxy.routing cimport Route
from vsproxy.stream cimport Downstream
from vsproxy.timers cimport Sweep
from vsproxy.upstream.http1 cimport UpstreamConnection
from vsproxy.upstream.pool_traffic cimport PoolTraffic
from vsproxy.upstream.server cimport Server
from vsproxy.wire.message cimport RequestHead, ResponseHead, make_response


cdef class Exchange(Attempt):
    @cython.locals(head=RequestHead)
    cpdef start(self)
    @cython.locals(upstream=UpstreamConnection)
    cpdef on_request_body(self, bytes data)
    @cython.locals(upstream=UpstreamConnection)
    cpdef on_request_rest(self, Py_ssize_t rest)
    cpdef on_request_spliced(self, Py_ssize_t count)
    @cython.locals(status=int, server=Server, pool=PoolTraffic, now=double)
    cpdef on_response_head(self, ResponseHead head, bint more)
    cpdef on_response_rest(self)
    cpdef on_response_spliced(self, Py_ssize_t count)
    @cython.locals(upstream=UpstreamConnection, server=Server)
    cpdef on_response_end(self, bytes trailers)
    cpdef finish_with(self, bytes trailers)
    cpdef give_up(self, str kind)
    cpdef break_off(self)
    cpdef refuse(self, int status, str reason)
    cpdef redirect(self, bytes location)
    cpdef answer(self, int status, str reason, bytes fields=*)
    @cython.locals(pool=PoolTraffic)
    cpdef finish(self)
    cpdef open_tunnel(self, ResponseHead head)
    cpdef on_tunnel_closed(self, object tunnel)


@cython.locals(exchange=Exchange)
cpdef Exchange new_exchange(
    Downstream downstream, RequestHead head, Route route, Forwarding forwarding, bytes request_id, Sweep sweep
)
