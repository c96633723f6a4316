/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_watch.h - the running server follows its certificates and ticket keys.
 *
 * Shard 0 has the files looked at once a second, on an offload thread (net/tls.h: tls_look).  All calls are for every shard, on a
 * fiber; only shard 0 acts.  Without TLS they do nothing.
 */
#ifndef PENFOLD_NET_SERVER_TLS_WATCH_H
#define PENFOLD_NET_SERVER_TLS_WATCH_H

void tls_watch_start(void);
void tls_watch_stop(void); /* waits for a look under way. Later. */
/* SIGHUP: looks at once, and reports whatever is wrong. Later. */
void tls_watch_now(void);

#endif
