import cython

from vsproxy.upstream.server cimport Server


cdef class Group:
    cdef public list members
    cdef public object open

    @cython.locals(server=Server)
    cpdef rebuild(self, list servers)
    cpdef bint holds(self, Server server)
    cpdef Server choose(self, object key, list tried)
    cpdef update(self, Server server)
    @cython.locals(server=Server)
    cpdef Server next_open(self, list tried)


cdef class Rotation(Group):
    cdef public Py_ssize_t cursor
    cdef public list order

    @cython.locals(server=Server, old=list, start=double)
    cpdef rebuild(self, list servers)
    @cython.locals(server=Server)
    cpdef Server step(self)
