from vsproxy cimport sockets
from vsproxy.upstream.http1 cimport UpstreamConnection
from vsproxy.upstream.server cimport Server
import cython

cdef int _DRAIN, _MAINT


cdef class Keepalive:
    cdef public double age
    cdef public double idle_timeout
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t requests
    cdef public object tls

    @cython.locals(connection=UpstreamConnection, oldest=UpstreamConnection, idle=list)
    cpdef take(self, Server server, double now, bint repeatable, object introduction=*)
    @cython.locals(server=Server, idle=list, oldest=UpstreamConnection)
    cpdef put(self, UpstreamConnection connection, double now)
    cpdef drop_all(self, Server server)


@cython.locals(connection=UpstreamConnection, index=Py_ssize_t, wanted=bytes)
cpdef bint bring_forward(list idle, object introduction) except *
