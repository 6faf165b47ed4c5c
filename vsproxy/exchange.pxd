from vsproxy.attempt cimport Attempt
from vsproxy.wire.message cimport ResponseHead


cdef class Exchange(Attempt):
    cpdef start(self)
    cpdef finish_with(self, bytes trailers)
    cpdef give_up(self, str kind)
    cpdef break_off(self)
    cpdef refuse(self, int status, str reason)
    cpdef redirect(self, bytes location)
    cpdef answer(self, int status, str reason, bytes fields=*)
    cpdef finish(self)
    cpdef open_tunnel(self, ResponseHead head)
    cpdef on_tunnel_closed(self, object tunnel)
