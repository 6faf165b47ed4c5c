from vsproxy.timers cimport Timed


cdef class Http2Handler(Timed):
    cpdef on_request(self, int stream_id, tuple fields, bint ended)
    cpdef on_data(self, int stream_id, bytes data, bint ended)
    cpdef on_trailers(self, int stream_id, tuple fields)
    cpdef on_reset(self, int stream_id)
    cpdef on_stream_closed(self, int stream_id, unsigned int code, bint ours)
    cpdef on_window(self, int stream_id)
    cpdef on_pong(self)
    cpdef on_goaway(self)
