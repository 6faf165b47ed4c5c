from vsproxy.attempt cimport Attempt
from vsproxy.wire.message cimport ResponseHead


cdef class Exchange(Attempt):
    cdef public Py_ssize_t bytes_in
    cdef public Py_ssize_t bytes_out
    cdef public object on_over

    cpdef start(self)
    cpdef finish_with(self, bytes trailers)
    cpdef give_up(self, str kind)
    cpdef refuse(self, int status, str reason)
    cpdef redirect(self, bytes location)
    cpdef answer(self, int status, str reason, bytes fields=*)
    cpdef finish(self)
    cpdef open_tunnel(self, ResponseHead head)
    cpdef on_tunnel_closed(self, object tunnel)
