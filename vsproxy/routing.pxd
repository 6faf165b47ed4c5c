import cython

from vsproxy.upstream.pool_traffic cimport PoolTraffic


cdef class Route:
    cdef public bytes fixed_host
    cdef public bint half_close_wait
    cdef public object host
    cdef public Py_ssize_t max_body
    cdef public str path
    cdef public PoolTraffic pool
    cdef public bint preserve_host
    cdef public double tunnel_timeout
    cdef public frozenset upgrades


cdef class Router:
    cdef dict _default
    cdef dict _exact
    cdef dict _wildcards
    cdef public tuple routes

    cpdef Route find(self, bytes host, bytes path)
    @cython.locals(dot=Py_ssize_t, found=Route)
    cpdef Route _find_by_host(self, bytes host, bytes path)


@cython.locals(found=Route, cut=Py_ssize_t)
cpdef Route longest_prefix(dict table, bytes path)
@cython.locals(buf="const unsigned char *", slash=bint, i=Py_ssize_t, size=Py_ssize_t, byte=int)
cpdef bint is_plain(bytes path) except -1
