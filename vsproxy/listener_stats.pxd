from vsproxy.descriptors cimport Descriptors
import cython


cdef class ListenerStats:
    cdef public Descriptors _descriptors
    cdef public object _on_release
    cdef public Py_ssize_t accepted
    cdef public Py_ssize_t active
    cdef public dict bad_requests
    cdef public dict certificates_refused
    cdef public Py_ssize_t handshakes
    cdef public Py_ssize_t http2_connections
    cdef public dict http2_events
    cdef public bint paused
    cdef public Py_ssize_t pauses
    cdef public Py_ssize_t pending
    cdef public Py_ssize_t plain_on_tls
    cdef public Py_ssize_t proxy_failures
    cdef public dict tls_cuts
    cdef public Py_ssize_t tls_failures
    cdef public Py_ssize_t turned_away

    cpdef admitted(self)
    cpdef opened(self)
    cpdef refused(self)
    cpdef closed(self)
    cpdef note_http2(self, str event)
    cpdef _release(self)
