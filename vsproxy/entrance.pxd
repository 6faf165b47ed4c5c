from vsproxy cimport sockets
from vsproxy.descriptors cimport Descriptors
from vsproxy.listener_stats cimport ListenerStats
from vsproxy.tls_transport cimport TlsTransport
import cython


cdef class BareSocket:
    cdef public object descriptor
    cdef public object family
    cdef public object type

    cpdef fileno(self)
    cpdef close(self)


cdef class Entrance:
    cdef public bint bare
    cdef public object clients
    cdef public object context
    cdef public Descriptors descriptors
    cdef public list entering
    cdef public object fronts
    cdef public object gate
    cdef public Py_ssize_t limit
    cdef public object loop
    cdef public object make_protocol
    cdef public object next
    cdef public object on_failed
    cdef public BareSocket socket
    cdef public ListenerStats stats

    cpdef bint is_full(self) except *
    @cython.locals(taken=Py_ssize_t)
    cpdef Py_ssize_t take(self, object listening, object family, Py_ssize_t most) except -1
    @cython.locals(accepted=tuple, number=int)
    cpdef bint take_one(self, object listening, object family) except *
    @cython.locals(known=int)
    cpdef admit(self, int descriptor, object family, bytes origin)
    cpdef TlsTransport secured(self, object context, object clients, object offer)
    cpdef take_next(self)
    @cython.locals(entering=list)
    cpdef go_on(self)
    cpdef failed(self, object exc)
