# For the modules that cimport it; `sockets.py` itself stays uncompiled.
from libc.errno cimport EAGAIN, errno

cdef extern from "sys/socket.h":
    int MSG_PEEK, MSG_DONTWAIT, MSG_NOSIGNAL
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
    ssize_t c_send "send"(int descriptor, const void *buffer, size_t size, int flags)


cdef inline bint is_quiet(int descriptor) noexcept:
    cdef char byte
    return recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 and errno == EAGAIN


cdef inline Py_ssize_t send(int descriptor, bytes data) noexcept:
    cdef ssize_t sent = c_send(descriptor, <const char *>data, len(data), MSG_DONTWAIT | MSG_NOSIGNAL)
    return sent if sent > 0 else 0
