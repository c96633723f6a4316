/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap.h - IMAP: IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) on the same store as POP3.
 *
 * For net/server, which names imap_proto in a listener.  A client that does not ENABLE IMAP4rev2 is answered as RFC 3501 says.  What
 * is announced (imap_cmd_capability.c) is what works.  Every OK comes after the store has made the change durable (invariant 1), but for
 * flags, which are synced within store.flags_sync_ms (DESIGN section 4).
 *
 * Sessions are independent of each other and of POP3: each has a version of its folder and learns of changes as the difference of
 * two versions, at the end of its own commands or, in IDLE, when the folder's watch fires.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_H
#define PENFOLD_NET_IMAP_IMAP_H

#include "net/session.h"

struct imap_config {
	const char *host_name;      /* in the greeting */
	const char *implementation; /* ID */
	const char *version;
	uint32_t login_idle_ms_max; /* before login */
	uint32_t idle_ms_max;       /* auto-logout; RFC 9051 section 5.4 wants 30 minutes at least */
	uint32_t auth_tries_max;    /* wrong passwords in one connection, then it is closed */
	uint32_t bad_commands_max;  /* senseless lines in a row, then it is closed */
	uint64_t message_bytes_max; /* APPENDLIMIT: the store's */
	uint32_t progress_ms;       /* a long command tells this often how far it is */
};
void imap_config_default(struct imap_config *config_out);
/* Copies; strings are kept by pointer. Before the shards start. */
void imap_configure(const struct imap_config *config);

extern const struct proto imap_proto;

#endif
