import cython

from cpython cimport time

from vsproxy.access_line cimport AccessRecord
from vsproxy.access_log cimport AccessLog
from vsproxy.exchange cimport Exchange, new_exchange
from vsproxy.headers cimport Forwarding
from vsproxy.relay cimport Relay
from vsproxy.routing cimport Router
from vsproxy.stream cimport Downstream
from vsproxy.timers cimport Sweep
from vsproxy.upstream.pool_traffic cimport PoolTraffic
from vsproxy.upstream.server cimport Server
from vsproxy.wire.message cimport RequestHead
from vsproxy.wire.syntax cimport skip_blanks, trim_blanks

cdef list _HEX


cdef class ListenerSettings:
    cdef public str address
    cdef public bint asks_certificates
    cdef public double body_timeout
    cdef public bint forwarded
    cdef public dict forwardings
    cdef public double header_timeout
    cdef public bytes hsts
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

    @cython.locals(known=Forwarding)
    cpdef Forwarding forwarding_for(self, bytes origin, object transport)
    cpdef str peer_of(self, bytes origin, object transport)
    cpdef Forwarding make_forwarding(self, str peer, object transport)


cdef class Serving:
    cdef AccessRecord _record
    cdef public AccessLog access_log
    cdef public set connections
    cdef public bint draining
    cdef public Relay relay
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
    cpdef Exchange begin(self, Downstream downstream, RequestHead head, Forwarding forwarding)
    cpdef connected(self, object connection)
    cpdef disconnected(self, object connection)
    cpdef note_underscores(self, list names)
    @cython.locals(record=AccessRecord)
    cpdef log_refusal(self, str client, ListenerSettings settings, int status, str reason)
    @cython.locals(
        head=RequestHead, fields=bytes, now=double, began=double, pool=PoolTraffic, server=Server, record=AccessRecord
    )
    cpdef log(self, Exchange exchange, ListenerSettings settings)


@cython.locals(head=RequestHead)
cpdef bint answer_here(Exchange exchange, ListenerSettings settings) except *
cpdef bytes without_port(bytes host)
