from vsproxy.access_line cimport AccessLines, AccessRecord
from vsproxy.timers cimport Timed
import cython

cdef Py_ssize_t _BATCH_BYTES


cdef class AccessLog(Timed):
    cdef bytearray _buffer
    cdef bint _closed
    cdef Py_ssize_t _count
    cdef AccessLines _lines
    cdef Py_ssize_t _size
    cdef object _writer

    @cython.locals(room=Py_ssize_t)
    cpdef log(self, AccessRecord record)
    cpdef flush(self)
