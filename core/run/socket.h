/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.h - the door to the kernel for what completes now on a socket: making listeners, asking who is there.
 *
 * For net/.  Everything that waits is in io.h; these are single short system calls that never block.  Results are >= 0 or
 * a negative errno.  Descriptors made here are non-blocking and close-on-exec and are closed with io_close.
 */
#ifndef PENFOLD_CORE_RUN_SOCKET_H
#define PENFOLD_CORE_RUN_SOCKET_H

#include "core/base/addr.h"

/* A listening stream socket.  For TCP: SO_REUSEADDR, IPv6 only when the address is IPv6, and what accepted connections
 * inherit: TCP_NODELAY, and keepalive that tells of a vanished peer after about two minutes.  `shared` sets SO_REUSEPORT, so that
 * several sockets may have the port.  A unix socket's file is made anew (a stale one is removed; -EADDRINUSE if
 * somebody listens on it) and has `unix_mode` from its first moment on (0666: everybody who reaches its folder may connect; on the main thread,
 * because of the umask).  The port may be 0: see socket_local. */
int socket_listen(const struct addr *address, bool shared, unsigned unix_mode);
/* A listening stream socket that somebody else made: from now on as if by socket_listen, but for its sharing and its backlog.  0 or
 * -errno; -EINVAL: it is something else. */
int socket_adopt(int fd);
/* A TCP listener refuses connections, its port still ours (an accept under way ends with -EINVAL); and takes them again. 0 or -errno. */
int socket_listen_pause(int fd);
int socket_listen_again(int fd);
/* Who is at the other end of a unix socket: false if the kernel does not say. */
bool socket_peer_user(int fd, uint32_t *uid_out);
/* 0 or -errno: could a process that shares its port with nobody listen here? */
int socket_probe(const struct addr *address);

/* A stream socket for io_connect, of the address's family. */
int socket_stream(const struct addr *address);

struct addr socket_local(int fd); /* none if it has no address */
struct addr socket_peer(int fd);

/* True when the connection is over in both directions or broken: reset, timed out, or the peer has not answered three
 * retransmissions in a row.  A peer that only ended its own sending is still there. */
bool socket_peer_gone(int fd);

/* Bytes handed to the kernel that the peer has not yet acknowledged. */
uint64_t socket_unacknowledged(int fd);

/* Some bytes to a connection that was just accepted, so that they find room; what finds none is lost. */
void socket_say(int fd, struct slice bytes);

/* One datagram to a unix socket, by its path or, behind "@", its abstract name; lost if it is not taken at once. */
void socket_tell(const char *path, struct slice text);

/* Sends the end of stream behind what is queued; receiving goes on. */
void socket_end_sending(int fd);

/* Close will throw away what is queued and reset the connection: for a peer that takes nothing, so that the kernel's memory is
 * free at once. */
void socket_reset_on_close(int fd);

#endif
