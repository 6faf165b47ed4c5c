# Read by the modules that cimport it; `quiet.py` itself stays uncompiled.
from libc.errno cimport EAGAIN, errno

cdef extern from "sys/socket.h":
    int MSG_PEEK, MSG_DONTWAIT
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)


cdef inline bint is_quiet(int descriptor) noexcept:
    cdef char byte
    return recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 and errno == EAGAIN
