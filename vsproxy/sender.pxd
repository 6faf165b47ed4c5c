from vsproxy cimport sockets
import cython

cdef Py_ssize_t _SMALL_BODY, _FEW_BYTES


cdef class Sender:
    cdef public object buffered
    cdef public int descriptor
    cdef public object is_closing
    cdef public bint queued
    cdef public object write_queued

    cpdef prepare(self, object transport, int descriptor, bint queued)
    @cython.locals(sent=Py_ssize_t)
    cpdef write(self, bytes data)
    @cython.locals(sent=Py_ssize_t, piece=bytes)
    cpdef write_parts(self, bytes head, bytes body, bytes tail)


@cython.locals(sender=Sender)
cpdef Sender new_sender(object transport, int descriptor)
