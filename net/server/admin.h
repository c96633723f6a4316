/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin.h - the admin socket: one line in, one JSON document out.
 *
 * A unix socket (mode and group by the configuration; 0600 by default, so only the server's user and root) served like any listener
 * by the shards.  The line is a request of admin_verbs.h, or the word "stats"; after the answer the connection closes.
 * The tools' side is admin_ask.
 */
#ifndef PENFOLD_NET_SERVER_ADMIN_H
#define PENFOLD_NET_SERVER_ADMIN_H

#include "net/session.h"

extern const struct proto admin_proto;

/* Asks a running server; *answer_out is malloc'd text. Blocking, at most ADMIN_ANSWER_MS_MAX. ERR_CLOSED: no server listens there;
 * ERR_DENIED: may not connect. */
enum err admin_ask(const char *socket_path, const char *line, char **answer_out);

#endif
