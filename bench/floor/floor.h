/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor: what a mail server's conversation costs when there is no mail server.
 *
 * A bare io_uring program that answers the same round trips as a real one with
 * canned replies: no parsing beyond a command's first letter, no accounts, no
 * files. Ratios in bench/ are taken against it, so it must be as cheap as the
 * kernel lets it be and still honest: each question is answered when it has
 * come, each reply leaves in one gathered send with TCP_NODELAY, every session
 * is accepted and closed, an LMTP delivery is written and synced before its 250
 * (with --log). One thread per ring, SO_REUSEPORT between them, direct
 * descriptors, one-shot receives (cheaper than multishot in lock step: an armed
 * receive holds the file), send linked to the next receive or to the close.
 *
 * Its RETR sends a message that carries a digest, as bench/load demands.
 *
 * This header is the room's common ground: options and canned replies.
 */
#ifndef BENCH_FLOOR_FLOOR_H
#define BENCH_FLOOR_FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THREADS_MAX 64
#define LOGS_MAX 4096         /* files appended to; each has at most one commit in flight */
#define CONNECTIONS_PER_RING 15000
#define LINE_REPLIES_MAX 64   /* replies gathered into one send */

struct floor_options {
	uint16_t pop3_port;       /* 0: not served */
	uint16_t lmtp_port;
	unsigned threads;
	unsigned messages;        /* in STAT and UIDL */
	size_t message_bytes;     /* of each, for STAT and RETR */
	unsigned distinct;        /* messages that RETR sends in turn: as much memory as a real server's mailboxes, not one hot message */
	size_t lmtp_bytes_max;    /* room for one delivery */
	const char *log_folder;   /* NULL: LMTP answers without a disk */
	unsigned logs;            /* files per thread, taken in turn; 1: group commit over everybody */
	int cpu;                  /* of the first thread; -1: not pinned */
};

struct reply {
	const char *text;
	size_t bytes;
	bool closes;
	bool takes_data;          /* LMTP: a message follows */
};

enum pop3_reply { POP3_GREETING, POP3_OK, POP3_STAT, POP3_UIDL, POP3_RETR, POP3_QUIT, POP3_BAD, POP3_REPLIES };
enum lmtp_reply { LMTP_GREETING, LMTP_LHLO, LMTP_OK, LMTP_DATA, LMTP_DONE, LMTP_QUIT, LMTP_BAD, LMTP_REPLIES };

struct canned {
	struct reply pop3[POP3_REPLIES];
	struct reply lmtp[LMTP_REPLIES];
	struct reply *retr;       /* `distinct` of them; pop3[POP3_RETR] is the first */
	unsigned distinct;
};

/* Made once before the threads start, read by all, lives until the end. */
void canned_init(struct canned *canned, const struct floor_options *o);

/* By the first letters of a command line; RETRs are counted in *turn_io. */
const struct reply *canned_pop3(const struct canned *canned, const char *line, size_t bytes, unsigned *turn_io);
const struct reply *canned_lmtp(const struct canned *canned, const char *line, size_t bytes);

/* One thread's life: serves until the process ends. Start-up errors end the
 * program. */
void ring_serve(const struct floor_options *o, const struct canned *canned, unsigned thread);

#endif
