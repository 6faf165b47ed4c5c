from vsproxy.downstream.http2_owner cimport StreamOwner
from vsproxy.stream cimport Downstream
from vsproxy.wire.http2 cimport Http2Session
import cython

cdef double _NEVER
cdef int _CANCEL
cdef Py_ssize_t _QUEUE_HIGH, _QUEUE_LOW, _ALL_HIGH
cdef Py_ssize_t _FIRST_WINDOW, _MOST_WINDOW


cdef class StreamFlow(Downstream):
    cdef public bint is_full
    cdef public Py_ssize_t last_queued
    cdef public int number
    cdef public StreamOwner owner
    cdef public Py_ssize_t passed
    cdef public bint patient
    cdef public bint reading_paused
    cdef public bint receiving
    cdef public bint sending
    cdef public Http2Session session
    cdef public bint shared
    cdef public Py_ssize_t uncredited
    cdef public Py_ssize_t unsent
    cdef public Py_ssize_t window

    cpdef prepare_flow(self, StreamOwner owner, int number, bint receiving)
    cpdef on_full(self, bint full)
    cpdef on_stalled(self)
    @cython.locals(amount=Py_ssize_t, owner=StreamOwner, more=Py_ssize_t)
    cpdef give_credit(self)
    cpdef Py_ssize_t queued(self) except -1
    @cython.locals(owner=StreamOwner)
    cpdef queue(self, bytes data, bint ended)
    cpdef look_for_excess(self)
    cpdef hold(self)
    @cython.locals(queued=Py_ssize_t)
    cpdef look_for_room(self)
    cpdef empty(self)
    cpdef note_end(self)
    @cython.locals(owner=StreamOwner)
    cpdef leave_flow(self)
    @cython.locals(owner=StreamOwner)
    cpdef set_wait(self)
