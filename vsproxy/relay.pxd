import cython

from vsproxy cimport sockets

cdef int _READABLE
cdef Py_ssize_t _MAX_LOOKS
cdef Py_ssize_t _MAX_MOVES


cdef class Source:
    cdef public int descriptor
    cdef public bint relayed
    cdef public bint awaits_turn

    cpdef bint on_readable(self, bytearray buffer) except -1
    cpdef on_unusual(self)
    cpdef on_failure(self)


cdef class Relay:
    cdef bytearray _buffer
    cdef int _descriptor
    cdef object _epoll
    cdef bytearray _found
    cdef object _loop
    cdef object _ready
    cdef bint _scheduled
    cdef list _sources

    @cython.locals(missing=Py_ssize_t)
    cpdef add(self, Source source)
    cpdef remove(self, Source source)
    cpdef close(self)
    @cython.locals(_=Py_ssize_t)
    cpdef on_notice(self)
    @cython.locals(count=Py_ssize_t, found=bytearray, index=Py_ssize_t, source=Source, sources=list)
    cpdef Py_ssize_t look(self) except -1
    @cython.locals(_=Py_ssize_t)
    cpdef move(self, Source source)
    @cython.locals(source=Source)
    cpdef turn(self)
