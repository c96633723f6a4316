/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_thread.h - threads of messages (RFC 5256 section 3): ORDEREDSUBJECT, REFERENCES, and REFS, which is REFERENCES without gathering by
 * subject, its threads in order of their newest message's arrival.
 *
 * For THREAD and for tests.  Pure: messages are added with what the algorithms look at, the forest is made, and its text comes out in
 * pieces, "(3)(1 2 (4)(5))".  Nothing recurses, whatever the depth of a thread; making the forest takes time linear in messages and
 * references but for sorting and for the look whether a link would close a circle, which climbs.
 *
 * Memory is the threads' own (thread_memory_bytes says how much) and goes by thread_release; identifiers and subjects are copied.  All
 * calls complete now, but for `breathe`, which is called again and again in long work and may wait (NULL: nobody).
 */
#ifndef PENFOLD_NET_IMAP_IMAP_THREAD_H
#define PENFOLD_NET_IMAP_IMAP_THREAD_H

#include "core/base/bytes.h"
#include "core/base/err.h"

enum thread_how { THREAD_ORDEREDSUBJECT, THREAD_REFERENCES, THREAD_REFS };
#define THREAD_NONE UINT32_MAX

struct thread_node {
	uint32_t number;  /* what is told of it; 0: a message that is not there, only named */
	uint32_t parent, first, last, next; /* nodes */
	uint32_t subject; /* in the pool, behind its length; of a message */
	bool reply;       /* its subject was one of a reply or a forwarded message */
	bool gone;        /* merged into another */
	int64_t sent_s, arrived_s;
};

struct threads {
	enum thread_how how;
	struct thread_node *nodes;
	uint32_t count, cap;
	uint32_t first_root, last_root;
	struct buf pool;     /* identifiers and subjects, each behind its length */
	uint32_t *ids;       /* open hash: a node that has an identifier, and one; 0 free */
	uint32_t *id_of;     /* by node: its identifier in the pool */
	uint32_t id_count, id_bits;
	uint64_t seed;
	uint32_t last_link;  /* of the message that is being added: its last reference */
	void (*breathe)(void);
};

void threads_init(struct threads *t, enum thread_how how, uint64_t seed, void (*breathe)(void));
void threads_release(struct threads *t);
size_t threads_memory_bytes(const struct threads *t);

struct thread_message {
	uint32_t number; /* not 0 */
	int64_t sent_s, arrived_s;
	struct slice subject; /* base subject, folded */
	bool reply;
	struct slice id;      /* empty: none */
};
/* A reference of the message that is added next, oldest first. ERR_LIMIT: the pool is full. */
enum err threads_reference(struct threads *t, struct slice id);
/* Messages come in order of their message numbers. ERR_LIMIT. */
enum err threads_add(struct threads *t, const struct thread_message *m);
/* When all are there. */
void threads_make(struct threads *t);

/* The text of the forest. */
struct thread_walk {
	uint32_t at;
	bool begun;
};
void thread_walk_begin(const struct threads *t, struct thread_walk *w);
/* The next piece, at most 32 bytes; false at the end. */
bool thread_walk_next(const struct threads *t, struct thread_walk *w, char piece[32], size_t *len_out);

/* ---- for SORT too (imap_thread.c) ---- */

/* Sorts numbers [0, count) in `order` by `less`, stable; `spare` is as large as `order`. */
void sort_stable(uint32_t *order, uint32_t *spare, uint32_t count, int (*compare)(const void *arg, uint32_t a, uint32_t b), const void *arg,
		 void (*breathe)(void));

#endif
