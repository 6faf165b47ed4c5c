import cython

from vsproxy.upstream.group cimport Group, Rotation
from vsproxy.upstream.server cimport Server

cdef Py_ssize_t _WALK, _DRAWS


cdef class RoundRobin(Rotation):
    @cython.locals(server=Server)
    cpdef Server choose(self, object key, list tried)


cdef class RandomOfTwo(Rotation):
    cdef public object random

    @cython.locals(first=Server, second=Server)
    cpdef Server choose(self, object key, list tried)
    @cython.locals(server=Server)
    cpdef Server draw(self, Server other, list tried)


cdef class Modulo(Rotation):
    @cython.locals(server=Server, index=Py_ssize_t, length=Py_ssize_t)
    cpdef Server choose(self, object key, list tried)


cdef class Ring(Group):
    cdef public Py_ssize_t bound
    cdef public dict owned
    cdef public list points
    cdef public double scale
    cdef public list slots

    @cython.locals(server=Server)
    cpdef rebuild(self, list servers)
    cpdef fit(self, list servers)
    @cython.locals(server=Server, index=Py_ssize_t)
    cpdef Server choose(self, object key, list tried)


cdef class Balancer:
    cdef public Group backups
    cdef public Group primaries

    cpdef rebuild(self, list servers)
    @cython.locals(server=Server)
    cpdef Server pick(self, object key, list tried)
    @cython.locals(group=Group)
    cpdef acquire(self, Server server)
    @cython.locals(group=Group)
    cpdef note_others(self, Server server, Py_ssize_t active, Py_ssize_t claim)
    @cython.locals(group=Group)
    cpdef release(self, Server server)
