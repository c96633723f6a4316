/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upgrade_inherit.c - see upgrade.h: what goes from the older process to the newer, on both sides.
 *
 * The text is lines: "lock FD", "http FD", "listener FD ADDRESS", then "end".  It fits the socket's buffer, so it is written before the newer is started.
 */
#include "net/server/upgrade_private.h"

#include "core/base/addr.h"
#include "core/base/log.h"
#include "net/listen.h"
#include "storage/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define HTTP_WORD "http"
#define LOCK_WORD "lock"
#define LISTENER_WORD "listener"
#define END_LINE "end\n"

/* ---- the older's side ---- */

static void add_listener(void *arg, int fd, const struct addr *address)
{
	struct upgrade_parcel *p = arg;
	char text[ADDR_TEXT_BYTES];
	size_t len = addr_format(address, text);
	buf_printf(&p->text, LISTENER_WORD " %d %.*s\n", fd, (int)len, text);
	upgrade_parcel_add(p, fd);
}

void upgrade_parcel_add(struct upgrade_parcel *p, int fd)
{
	p->fds = xrealloc(p->fds, (p->count + 1) * sizeof *p->fds);
	p->fds[p->count++] = fd;
}

void upgrade_parcel_fill(struct upgrade_parcel *p, int http_fd)
{
	*p = (struct upgrade_parcel){ .count = 0 };
	buf_init(&p->text, UPGRADE_TEXT_BYTES_MAX);
	buf_printf(&p->text, LOCK_WORD " %d\n", store_lock_fd());
	upgrade_parcel_add(p, store_lock_fd());
	if (http_fd >= 0) {
		buf_printf(&p->text, HTTP_WORD " %d\n", http_fd);
		upgrade_parcel_add(p, http_fd);
	}
	listeners_each(add_listener, p);
	buf_printf(&p->text, END_LINE);
}

void upgrade_parcel_release(struct upgrade_parcel *p)
{
	buf_release(&p->text);
	free(p->fds);
}

/* ---- the newer's side ---- */

static struct {
	int control, lock, http;
} got = { -1, -1, -1 };

bool upgrade_takes_over(void) { return got.control >= 0; }
int upgrade_control_fd(void) { return got.control; }
int upgrade_lock_fd(void) { return got.lock; }
int upgrade_http_fd(void) { return got.http; }

/* The whole text; false: it ended before that. */
static bool read_text(int fd, char *out, size_t bytes)
{
	size_t len = 0;
	while (len + 1 < bytes) {
		ssize_t n = read(fd, out + len, bytes - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		len += (size_t)n;
		out[len] = 0;
		if (len >= sizeof(END_LINE) - 1 && !strcmp(out + len - (sizeof(END_LINE) - 1), END_LINE))
			return true;
	}
	return false;
}

static bool descriptor(const char *text, int *fd_out)
{
	uint64_t n;
	if (!text || !slice_u64(slice_str(text), INT32_MAX, &n) || fcntl((int)n, F_GETFD) < 0)
		return false;
	*fd_out = (int)n;
	return fcntl(*fd_out, F_SETFD, FD_CLOEXEC) == 0;
}

/* False: it is not understood. */
static bool take_line(char *line, struct listen_given *sockets, size_t *count)
{
	char *word = strtok_r(line, " ", &line), *number = strtok_r(NULL, " ", &line), *rest = line;
	int fd;
	if (!word || !descriptor(number, &fd))
		return false;
	if (!strcmp(word, LOCK_WORD))
		got.lock = fd;
	else if (!strcmp(word, HTTP_WORD))
		got.http = fd;
	else if (!strcmp(word, LISTENER_WORD) && rest && addr_parse(slice_str(rest), &sockets[*count].address) == OK)
		sockets[(*count)++].fd = fd;
	else
		close(fd); /* of a newer version's older: what we do not know we do not need */
	return true;
}

static bool take_text(char *text)
{
	size_t lines = 0, count = 0;
	bool good = true;
	for (const char *p = text; *p; p++)
		lines += *p == '\n';
	struct listen_given *sockets = xcalloc(lines + 1, sizeof *sockets);
	char *rest = text, *line;
	while (good && (line = strtok_r(rest, "\n", &rest)) != NULL && strcmp(line, "end") != 0)
		good = take_line(line, sockets, &count);
	if (good)
		listeners_inherit(sockets, count);
	free(sockets);
	return good && got.lock >= 0;
}

enum err upgrade_inherit(void)
{
	const char *number = getenv(UPGRADE_VARIABLE);
	if (!number)
		return OK;
	char *text = xmalloc(UPGRADE_TEXT_BYTES_MAX);
	bool good = descriptor(number, &got.control) && read_text(got.control, text, UPGRADE_TEXT_BYTES_MAX) && take_text(text);
	free(text);
	unsetenv(UPGRADE_VARIABLE);
	if (good)
		return OK;
	log_event(LOG_ERROR, "server.upgrade_inherit", LOG_Z("hint", UPGRADE_VARIABLE " is set, but no older process is at its end"));
	return ERR_CONFIG;
}
