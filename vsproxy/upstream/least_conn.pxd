import cython

from vsproxy.upstream.group cimport Rotation
from vsproxy.upstream.server cimport Server

cdef Py_ssize_t _TIE_WALK


cdef class Bucket:
    cdef public Bucket above
    cdef public Bucket below
    cdef public Server first
    cdef public Server last
    cdef public Py_ssize_t place
    cdef public double score

    @cython.locals(last=Server)
    cpdef append(self, Server server)
    @cython.locals(before=Server, after=Server)
    cpdef remove(self, Server server)


cdef class LeastConn(Rotation):
    cdef public dict buckets
    cdef public list heap

    @cython.locals(server=Server)
    cpdef rebuild(self, list servers)
    @cython.locals(server=Server, found=Server)
    cpdef Server choose(self, object key, list tried)
    @cython.locals(server=Server, first=Server, bucket=Bucket)
    cpdef Server least(self)
    @cython.locals(bucket=Bucket)
    cpdef Bucket lowest(self)
    @cython.locals(before=Bucket)
    cpdef update(self, Server server)
    @cython.locals(bucket=Bucket)
    cpdef withdraw(self, Server server)
    @cython.locals(score=double, bucket=Bucket)
    cpdef place(self, Server server, Bucket before)
    @cython.locals(bucket=Bucket)
    cpdef Bucket bucket_of(self, double score)
    @cython.locals(bucket=Bucket)
    cpdef sweep(self)
    @cython.locals(heap=list, place=Py_ssize_t, parent=Bucket)
    cpdef push(self, Bucket bucket)
    @cython.locals(
        heap=list, first=Bucket, last=Bucket, size=Py_ssize_t, place=Py_ssize_t, next_place=Py_ssize_t,
        child=Bucket, other=Bucket,
    )
    cpdef pop(self)
