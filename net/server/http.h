/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - metrics and probes over HTTP, on a thread of its own (libmicrohttpd).
 *
 *     /          a page for people (status.h), /status.json the same for programs
 *     /metrics   OpenMetrics 1.0      /livez /readyz /startupz   200 "ok" or 503 and why (probe.h)
 *
 * No TLS and no login: for the network of operators, so loopback by default.  Nothing here changes anything, and nothing asks a shard:
 * when all shards hang it still says so.
 */
#ifndef PENFOLD_NET_SERVER_HTTP_H
#define PENFOLD_NET_SERVER_HTTP_H

#include "core/base/err.h"
#include "net/server/config.h"

struct http;
/* Main thread. ERR_CONFIG, ERR_IN_USE, ERR_DENIED, ERR_IO after a line in the log. */
enum err http_open(const struct config *config, struct http **http_out);
void http_close(struct http *http); /* NULL is harmless */

#endif
