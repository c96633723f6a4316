/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.c - short system calls on sockets.
 */
#include "core/run/socket.h"
#include "core/base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Closes after a failure; errno of the failure is what counts. */
static int give_up(int fd, int result)
{
	close(fd);
	return result;
}

/* What accepted connections inherit. */
static int inherited_options(int fd)
{
	int r = option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (r == 0)
		r = option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	/* These are wishes: without them the kernel's two hours and megabytes hold. */
	option(fd, IPPROTO_TCP, TCP_KEEPIDLE, SOCKET_KEEPALIVE_IDLE_S);
	option(fd, IPPROTO_TCP, TCP_KEEPINTVL, SOCKET_KEEPALIVE_INTERVAL_S);
	option(fd, IPPROTO_TCP, TCP_KEEPCNT, SOCKET_KEEPALIVE_PROBES);
	option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, SOCKET_UNSENT_BYTES_MAX);
	return r;
}

static int tcp_options(int fd, const struct addr *a, bool shared)
{
	int r = option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (r == 0 && shared)
		r = option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (r == 0 && a->u.sa.sa_family == AF_INET6)
		r = option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	return r == 0 ? inherited_options(fd) : r;
}

/* A file that nobody listens on is left over from a process that died. */
static int remove_stale(const struct addr *a)
{
	struct stat st;
	if (lstat(a->u.un.sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = connect(fd, &a->u.sa, a->len) < 0 ? errno : 0;
	close(fd);
	if (r != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(a->u.un.sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bound(const struct addr *a, bool shared)
{
	int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = addr_is_unix(a) ? remove_stale(a) : tcp_options(fd, a, shared);
	if (r < 0)
		return give_up(fd, r);
	if (bind(fd, &a->u.sa, a->len) < 0)
		return give_up(fd, -errno);
	return fd;
}

/* The file is made with the mode it is to have: set afterwards, it would be open to others for a moment. */
static int bound_unix(const struct addr *a, mode_t mode)
{
	mode_t before = umask(0777 & ~mode);
	int fd = bound(a, false);
	umask(before);
	return fd;
}

int socket_listen(const struct addr *address, bool shared, unsigned unix_mode)
{
	int fd = addr_is_unix(address) ? bound_unix(address, (mode_t)unix_mode) : bound(address, shared);
	if (fd < 0)
		return fd;
	if (listen(fd, SOCKET_BACKLOG) < 0)
		return give_up(fd, -errno);
	return fd;
}

int socket_adopt(int fd)
{
	int type = 0, listens = 0;
	socklen_t len = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0)
		return -errno;
	if (type != SOCK_STREAM || !listens)
		return -EINVAL;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	struct addr a = socket_local(fd);
	return addr_is_unix(&a) ? 0 : inherited_options(fd);
}

int socket_listen_pause(int fd) { return shutdown(fd, SHUT_RDWR) < 0 ? -errno : 0; }

int socket_listen_again(int fd) { return listen(fd, SOCKET_BACKLOG) < 0 ? -errno : 0; }

bool socket_peer_user(int fd, uint32_t *uid_out)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) < 0)
		return false;
	*uid_out = who.uid;
	return true;
}

int socket_probe(const struct addr *address)
{
	if (addr_is_unix(address))
		return 0; /* socket_listen never shares it */
	int fd = bound(address, false);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int socket_stream(const struct addr *address)
{
	int fd = socket(address->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!addr_is_unix(address))
		option(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* a wish */
	return fd;
}

typedef int (*name_call)(int fd, struct sockaddr *sa, socklen_t *len);

static struct addr ask(int fd, name_call call)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	if (call(fd, (struct sockaddr *)&ss, &len) < 0)
		return addr_from(NULL, 0);
	return addr_from((struct sockaddr *)&ss, len);
}

static int local_name(int fd, struct sockaddr *sa, socklen_t *len) { return getsockname(fd, sa, len); }
static int peer_name(int fd, struct sockaddr *sa, socklen_t *len) { return getpeername(fd, sa, len); }

struct addr socket_local(int fd) { return ask(fd, local_name); }
struct addr socket_peer(int fd) { return ask(fd, peer_name); }

bool socket_peer_gone(int fd)
{
	struct pollfd p = { .fd = fd, .events = 0 };
	if (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL)))
		return true;
	struct tcp_info info;
	socklen_t len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return false; /* not TCP: poll has said all there is */
	return info.tcpi_retransmits >= SOCKET_RETRANSMITS_GONE;
}

uint64_t socket_unacknowledged(int fd)
{
	int bytes = 0;
	return ioctl(fd, SIOCOUTQ, &bytes) < 0 || bytes < 0 ? 0 : (uint64_t)bytes;
}

void socket_say(int fd, struct slice bytes)
{
	ssize_t ignored = send(fd, bytes.ptr, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ignored;
}

void socket_tell(const char *path, struct slice text)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int fd = len < sizeof(to.sun_path) ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	if (fd < 0)
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	ssize_t ignored = sendto(fd, text.ptr, text.len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/')));
	(void)ignored;
	close(fd);
}

void socket_end_sending(int fd) { shutdown(fd, SHUT_WR); }

void socket_reset_on_close(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}
