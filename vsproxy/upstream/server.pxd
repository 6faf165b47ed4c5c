from vsproxy.histogram cimport Histogram

cdef int _REUSE_STREAK
cdef double _SURVIVAL_TIME

cdef class Server:
    cdef public str pool_name
    cdef public str name
    cdef public str host
    cdef public int port
    cdef public int weight
    cdef public double effective_weight
    cdef public bint backup
    cdef public Py_ssize_t max_connections

    cdef public Py_ssize_t slot
    cdef public Py_ssize_t serial
    cdef public Py_ssize_t claim

    cdef public int state
    cdef public str state_reason
    cdef public double state_since
    cdef public bint removed
    cdef public str last_check
    cdef public Py_ssize_t check_successes
    cdef public Py_ssize_t check_failures
    cdef public Histogram check_time
    cdef public list changes

    cdef public object bucket
    cdef public Py_ssize_t position
    cdef public Server before
    cdef public Server after

    cdef public list idle
    cdef public double reuse_bound
    cdef public Py_ssize_t reuse_streak
    cdef public double reuse_until
    cdef public bint promised

    cdef public Py_ssize_t active
    cdef public Py_ssize_t elsewhere
    cdef public Py_ssize_t requests
    cdef public Py_ssize_t retries
    cdef public Histogram connect_time
    cdef public Histogram first_byte
    cdef public Py_ssize_t bytes_sent
    cdef public Py_ssize_t bytes_received
    cdef public list statuses
    cdef public dict failures
    cdef public Py_ssize_t tls_handshakes
    cdef public Py_ssize_t tls_resumed
    cdef public Py_ssize_t tls_failures

    cdef public object tls_session
    cdef public str tls_trouble

    cpdef bint is_full(self)
    cpdef bytes host_field(self)
    cpdef double load(self) except -1.0
    cpdef count_failure(self, str kind)
    cpdef note_announced(self, double timeout)
    cpdef note_reuse(self)
    cpdef note_idle_close(self, double idle)
    cpdef note_survival(self, double idle)
    cpdef bint is_trusted(self) except *
    cpdef bint is_safe_to_reuse(self, double idle)
