/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_status.h - STATUS's items, for STATUS itself and for LIST's RETURN (STATUS (...)): read once, then told for each mailbox.  Both
 * give the same line, so that a client may take either.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_STATUS_H
#define PENFOLD_NET_IMAP_IMAP_STATUS_H

#include "net/imap/imap_private.h"

enum {
	IMAP_STATUS_MESSAGES = 1, IMAP_STATUS_RECENT = 2, IMAP_STATUS_UIDNEXT = 4, IMAP_STATUS_UIDVALIDITY = 8, IMAP_STATUS_UNSEEN = 16,
	IMAP_STATUS_DELETED = 32, IMAP_STATUS_SIZE = 64, IMAP_STATUS_HIGHESTMODSEQ = 128, IMAP_STATUS_APPENDLIMIT = 256,
	IMAP_STATUS_MAILBOXID = 512, IMAP_STATUS_DELETED_STORAGE = 1024
};
/* "(MESSAGES UNSEEN)". False: the parser has noted why. */
bool imap_status_items(struct imap_session *p, uint32_t *items_out);
/* The untagged line. May yield. */
void imap_status_put(struct imap_session *p, uint32_t folder, uint32_t wanted);

#endif
