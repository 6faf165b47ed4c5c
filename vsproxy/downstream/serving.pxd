import cython

from vsproxy.exchange cimport Exchange
from vsproxy.routing cimport Router
from vsproxy.timers cimport Sweep

cdef list _HEX


cdef class ListenerSettings:
    cdef public str address
    cdef public double body_timeout
    cdef public bint forwarded
    cdef public double header_timeout
    cdef public double idle_timeout
    cdef public bint keep_underscores
    cdef public Py_ssize_t max_fields
    cdef public Py_ssize_t max_head
    cdef public Py_ssize_t max_requests
    cdef public Py_ssize_t max_target
    cdef public tuple networks
    cdef public bint redirect
    cdef public bint retired
    cdef public bint secure
    cdef public double send_timeout
    cdef public bint via


cdef class Serving:
    cdef public object access_log
    cdef public set connections
    cdef public bint draining
    cdef public bytes request_block
    cdef public Py_ssize_t request_count
    cdef public bytes request_prefix
    cdef public Router router
    cdef public object splicer
    cdef public Sweep sweep
    cdef public set underscores_seen
    cdef public object vacant

    @cython.locals(low=Py_ssize_t)
    cpdef bytes next_request_id(self)
    cpdef connected(self, object connection)
    cpdef disconnected(self, object connection)
    cpdef note_underscores(self, list names)
    cpdef log_refusal(self, str client, ListenerSettings settings, int status, str reason)
    cpdef log(self, Exchange exchange, ListenerSettings settings)
