# For the modules that cimport it; `sockets.py` itself stays uncompiled.
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset

cdef extern from "sys/uio.h":
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "netinet/in.h":
    int AF_INET, AF_INET6
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr
        unsigned int sin6_scope_id

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        pass
    int SOCK_CLOEXEC
    int accept4(int descriptor, sockaddr *address, socklen_t *size, int flags)

cdef extern from "sys/socket.h":
    int MSG_PEEK, MSG_DONTWAIT, MSG_NOSIGNAL
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
    ssize_t c_send "send"(int descriptor, const void *buffer, size_t size, int flags)
    ssize_t sendmsg(int descriptor, const msghdr *message, int flags)

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/epoll.h>
    static inline int vsproxy_found(int epoll, int *found, int most) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, most < 256 ? most : 256, 0);
        for (int i = 0; i < count; i++) {
            found[2 * i] = events[i].data.fd;
            found[2 * i + 1] = (int)events[i].events;
        }
        return count > 0 ? count : 0;
    }
    #else
    static inline int vsproxy_found(int epoll, int *found, int most) { return 0; }
    #endif
    """
    int vsproxy_found(int epoll, int *found, int most)


cdef inline bint is_quiet(int descriptor) noexcept:
    cdef char byte
    return recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 and errno == EAGAIN


cdef inline Py_ssize_t send(int descriptor, bytes data) noexcept:
    cdef ssize_t sent = c_send(descriptor, <const char *>data, len(data), MSG_DONTWAIT | MSG_NOSIGNAL)
    return sent if sent > 0 else 0


cdef inline Py_ssize_t send_parts(int descriptor, bytes head, bytes body, bytes tail) noexcept:
    cdef iovec pieces[3]
    cdef msghdr message
    cdef ssize_t sent
    pieces[0].iov_base, pieces[0].iov_len = <char *>head, len(head)
    pieces[1].iov_base, pieces[1].iov_len = <char *>body, len(body)
    pieces[2].iov_base, pieces[2].iov_len = <char *>tail, len(tail)
    memset(&message, 0, sizeof(message))
    message.msg_iov = pieces
    message.msg_iovlen = 3 if len(tail) > 0 else 2
    sent = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
    return sent if sent > 0 else 0


cdef inline tuple accept(int listening):
    cdef sockaddr_storage storage
    cdef sockaddr *address = <sockaddr *>&storage
    cdef socklen_t size = sizeof(storage)
    cdef int accepted = accept4(listening, address, &size, SOCK_CLOEXEC)
    if accepted < 0:
        return -errno, b""
    if address.sa_family == AF_INET:
        return accepted, PyBytes_FromStringAndSize(<char *>&(<sockaddr_in *>address).sin_addr, sizeof(in_addr))
    if address.sa_family == AF_INET6 and (<sockaddr_in6 *>address).sin6_scope_id == 0:
        return accepted, PyBytes_FromStringAndSize(<char *>&(<sockaddr_in6 *>address).sin6_addr, sizeof(in6_addr))
    return accepted, b""


cdef inline Py_ssize_t receive(int descriptor, bytearray buffer) noexcept:
    cdef ssize_t count = recv(descriptor, PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer), MSG_DONTWAIT)
    while count < 0 and errno == EINTR:
        count = recv(descriptor, PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer), MSG_DONTWAIT)
    if count >= 0:
        return count
    return -1 if errno == EAGAIN else -2


cdef inline Py_ssize_t forward(int descriptor, bytearray buffer, Py_ssize_t count) noexcept:
    cdef ssize_t sent = c_send(descriptor, PyByteArray_AS_STRING(buffer), count, MSG_DONTWAIT | MSG_NOSIGNAL)
    return sent if sent > 0 else 0


cdef inline Py_ssize_t look(object epoll, int descriptor, bytearray found) noexcept:
    return vsproxy_found(descriptor, <int *>PyByteArray_AS_STRING(found), <int>(PyByteArray_GET_SIZE(found) // 8))


cdef inline int found_at(bytearray found, Py_ssize_t index) noexcept:
    return (<int *>PyByteArray_AS_STRING(found))[index]
