import cython

from cpython cimport time

from vsproxy.sender cimport Sender

cdef int _FRESH, _SHAKING, _OPEN, _LEAVING, _SHUT
cdef Py_ssize_t _FEW_BYTES
cdef Py_ssize_t _RECORD, _STEP, _GLANCE
cdef Py_ssize_t _MAX_HANDSHAKE, _MAX_CHAFF, _ANSWER_WEIGHT
cdef int _HANDSHAKE_RECORD


cdef class TlsTransport:
    cdef public Py_ssize_t chaff
    cdef public double chaff_since
    cdef public bytes client_cert
    cdef public object clients
    cdef public object context
    cdef public object error
    cdef public object gate
    cdef public bint greeting
    cdef public bytes held
    cdef public object incoming
    cdef public object inside
    cdef public object offer
    cdef public object outgoing
    cdef public bint patient
    cdef public object raw
    cdef public Sender sender
    cdef public int state
    cdef public object tls
    cdef public bint watched
    cdef public Py_ssize_t written

    cpdef connection_made(self, object transport)
    cpdef get_buffer(self, object sizehint)
    cpdef buffer_updated(self, Py_ssize_t count)
    cpdef data_received(self, bytes data)
    cpdef receive(self, object data)
    cpdef connection_lost(self, object exc)
    cpdef open_up(self, object data)
    cpdef begin(self, bint server_side, object name, object session)
    cpdef shake(self)
    @cython.locals(count=Py_ssize_t, ended=bint, size=Py_ssize_t, step=Py_ssize_t, taken=Py_ssize_t, total=Py_ssize_t)
    cpdef read(self, object data)
    @cython.locals(now=double)
    cpdef bint overdone(self) except *
    cpdef break_off(self, object error)
    @cython.locals(data=bytes)
    cpdef flush(self)
    @cython.locals(sent=Py_ssize_t, size=Py_ssize_t)
    cpdef write(self, bytes data)
    cpdef close(self)
    @cython.locals(count=Py_ssize_t, taken=Py_ssize_t, total=Py_ssize_t)
    cpdef await_goodbye(self, object data)
    cpdef abort(self)
    cpdef bint is_closing(self) except *
