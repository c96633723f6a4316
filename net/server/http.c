/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - see http.h. */
#include "net/server/http.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/run/socket.h"
#include "net/server/openmetrics.h"
#include "net/server/probe.h"
#include "net/server/status.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct http {
	struct MHD_Daemon *daemon;
};

static enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *type, const char *text, size_t bytes)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(bytes, slice_dup(slice_of(text, bytes)), MHD_RESPMEM_MUST_FREE);
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, "Content-Type", type);
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	/* The page has no script and asks for nothing: should a stranger's text ever get through, it could do nothing. */
	MHD_add_response_header(r, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, "Allow", "GET, HEAD");
	enum MHD_Result queued = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return queued;
}

static enum MHD_Result plain(struct MHD_Connection *c, unsigned status, const char *text)
{
	char line[128];
	int len = snprintf(line, sizeof line, "%s\n", text);
	return send_text(c, status, "text/plain; charset=utf-8", line, (size_t)len);
}

static enum MHD_Result verdict(struct MHD_Connection *c, bool good, const char *why)
{
	return good ? plain(c, MHD_HTTP_OK, "ok") : plain(c, MHD_HTTP_SERVICE_UNAVAILABLE, why);
}

static enum MHD_Result written(struct MHD_Connection *c, const char *type, void (*write)(struct buf *out))
{
	struct buf out;
	buf_init(&out, HTTP_ANSWER_BYTES_MAX);
	write(&out);
	struct slice text = buf_slice(&out);
	enum MHD_Result sent = send_text(c, MHD_HTTP_OK, type, text.ptr, text.len);
	buf_release(&out);
	return sent;
}

static enum MHD_Result status(struct MHD_Connection *c)
{
	json_t *all = status_json();
	char *text = json_dumps(all, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	json_decref(all);
	enum MHD_Result sent = text ? send_text(c, MHD_HTTP_OK, "application/json", text, strlen(text)) : MHD_NO;
	free(text);
	return sent;
}

static enum MHD_Result asked(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *body,
			     size_t *body_bytes, void **state)
{
	const char *why = "";
	(void)arg, (void)version, (void)body, (void)state;
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		*body_bytes = 0;
		return plain(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD");
	}
	if (!strcmp(url, "/metrics"))
		return written(c, "application/openmetrics-text; version=1.0.0; charset=utf-8", openmetrics_write);
	if (!strcmp(url, "/") || !strcmp(url, "/status"))
		return written(c, "text/html; charset=utf-8", status_page_write);
	if (!strcmp(url, "/status.json"))
		return status(c);
	if (!strcmp(url, "/livez"))
		return probe_alive(&why) ? plain(c, MHD_HTTP_OK, "ok") : verdict(c, false, why);
	if (!strcmp(url, "/readyz"))
		return probe_ready(&why) ? plain(c, MHD_HTTP_OK, "ok") : verdict(c, false, why);
	if (!strcmp(url, "/startupz"))
		return verdict(c, probe_started(), "starting");
	return plain(c, MHD_HTTP_NOT_FOUND, "/ /status.json /metrics /livez /readyz /startupz");
}

static enum err refuse(const struct config *config, int error)
{
	log_event(LOG_ERROR, "http.listen_failed", LOG_Z("where", config->where_http), LOG_Z("address", config->http_address), LOG_ERRNO(error));
	return error == EADDRINUSE ? ERR_IN_USE : error == EACCES ? ERR_DENIED : ERR_CONFIG;
}

/* A socket of the process before us that listens where we are to, or -1. */
static int usable(int fd, const struct addr *address)
{
	struct addr there;
	if (fd < 0)
		return -1;
	there = socket_local(fd);
	if (addr_eq(&there, address))
		return fd;
	close(fd);
	return -1;
}

enum err http_open(const struct config *config, int fd, struct http **http_out)
{
	struct addr a;
	sigset_t all, before;
	if (addr_parse(slice_str(config->http_address), &a) != OK)
		return refuse(config, EINVAL);
	fd = usable(fd, &a);
	struct http *h = xcalloc(1, sizeof *h);
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO | MHD_USE_ITC | (a.u.sa.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are shard 0's */
	errno = 0;
	h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, asked, NULL, MHD_OPTION_SOCK_ADDR, &a.u.sa, MHD_OPTION_CONNECTION_LIMIT,
				     HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S_MAX,
				     fd < 0 ? MHD_OPTION_END : MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_END);
	int error = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!h->daemon) {
		free(h);
		return refuse(config, error);
	}
	*http_out = h;
	return OK;
}

int http_fd(const struct http *http)
{
	const union MHD_DaemonInfo *info = http ? MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_LISTEN_FD) : NULL;
	return info ? info->listen_fd : -1;
}

void http_hand_over(struct http *http)
{
	int fd = http ? MHD_quiesce_daemon(http->daemon) : -1;
	if (fd >= 0)
		close(fd);
}

void http_close(struct http *http)
{
	if (!http)
		return;
	MHD_stop_daemon(http->daemon);
	free(http);
}
