/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.h - the bytes that a session has received and not yet used, in one piece.
 *
 * For session.c and conn.c.  Memory is taken only while there are bytes: a parked session has none.  Received bytes are
 * copied here once, so that a handler may wait for the store with its line or its data in hand while the door's buffer
 * serves others; no receive is armed while there is something to work on, which is what bounds this: one receive, behind
 * an unfinished line.
 *
 * Bulk data is received straight into a pooled buffer (input_room), without the copy.
 */
#ifndef PENFOLD_NET_INPUT_H
#define PENFOLD_NET_INPUT_H

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "net/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of a shard. */
struct input_pools {
	struct pool small, bulk;
};
void input_pools_init(struct input_pools *p);
void input_pools_release(struct input_pools *p);

struct input {
	char *ptr; /* from one of the pools or from malloc: told by cap; NULL while there is nothing */
	uint32_t at, end, cap;
};

static inline void input_init(struct input *in) { *in = (struct input){ NULL, 0, 0, 0 }; }
void input_release(struct input *in, struct input_pools *pools);

static inline struct slice input_unread(const struct input *in)
{
	return in->ptr ? slice_of(in->ptr + in->at, in->end - in->at) : slice_of(NULL, 0);
}
static inline size_t input_len(const struct input *in) { return in->end - in->at; }
void input_add(struct input *in, struct slice bytes, struct input_pools *pools);
/* The bytes stay where they are until the next input_add, input_room, input_trim. */
void input_use(struct input *in, size_t bytes);

/* Space for a receive of bulk data behind what is unread; input_added tells how much came. */
char *input_room(struct input *in, struct input_pools *pools, size_t *bytes_out);
void input_added(struct input *in, size_t bytes);

/* Nobody works on the bytes: into the smallest place that holds them. */
void input_trim(struct input *in, struct input_pools *pools);

#ifdef __cplusplus
}
#endif
#endif
