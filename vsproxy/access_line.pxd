cimport cython

from vsproxy.log_text cimport (
    is_plain, put, put_milliseconds, put_number, put_text, put_three_digits, room_for
)

cdef Py_ssize_t _FIXED, _LONGEST_CHARACTER, _MAX_NAMES
cdef list _HEX, _JSON


cdef class AccessRecord:
    cdef public double time
    cdef public str client
    cdef public str listener
    cdef public bytes method
    cdef public bytes host
    cdef public bytes target
    cdef public int minor
    cdef public int status
    cdef public Py_ssize_t bytes_in
    cdef public Py_ssize_t bytes_out
    cdef public double queue
    cdef public double connect
    cdef public double first_byte
    cdef public double total
    cdef public str pool
    cdef public str server
    cdef public Py_ssize_t tries
    cdef public bytes request_id
    cdef public str outcome
    cdef public bytes fields
    cdef public Py_ssize_t referer
    cdef public Py_ssize_t referer_end
    cdef public Py_ssize_t user_agent
    cdef public Py_ssize_t user_agent_end
    cdef public bint tls

    cpdef Py_ssize_t room(self) except -1


cdef class AccessLines:
    cdef dict _names
    cdef long long _second
    cdef bytes _stamp

    cpdef Py_ssize_t put_line(self, unsigned char *buf, Py_ssize_t at, AccessRecord record) except -1
    cpdef bytes stamp(self, long long second)
    cpdef bytes escape(self, str name)
    cpdef bytes stamp_of(self, long long second)
    @cython.locals(known=bytes)
    cpdef bytes name(self, str text)


cdef class JsonLines(AccessLines):
    @cython.locals(second="long long")
    cpdef Py_ssize_t put_line(self, unsigned char *buf, Py_ssize_t at, AccessRecord record) except -1
    cpdef Py_ssize_t put_measures(self, unsigned char *buf, Py_ssize_t at, AccessRecord record) except -1


cdef class CombinedLines(AccessLines):
    cpdef Py_ssize_t put_line(self, unsigned char *buf, Py_ssize_t at, AccessRecord record) except -1


cpdef Py_ssize_t put_or_dash(unsigned char *buf, Py_ssize_t at, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
