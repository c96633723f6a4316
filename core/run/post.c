/* SPDX-License-Identifier: Apache-2.0 */
/*
 * post.c - messages between shards.
 *
 * The queue is a stack that senders push onto with one compare-and-swap and the target takes whole with one exchange and turns
 * round, so the order between two shards is kept.  A target that is awake looks before it sleeps and is not woken; of
 * many senders to a sleeping one only the first makes the system call.
 */
#include "core/run/sanitize.h"
#include "core/run/shard_private.h"

static struct shard **shard_table; /* process-wide: written before and after the shards run */
static unsigned shard_table_count;

void shards_publish(struct shard **shards, unsigned count)
{
	__atomic_store_n(&shard_table, shards, __ATOMIC_RELEASE);
	__atomic_store_n(&shard_table_count, count, __ATOMIC_RELEASE);
}

unsigned shard_count(void) { return __atomic_load_n(&shard_table_count, __ATOMIC_ACQUIRE); }

struct shard *shard_at(unsigned index)
{
	ASSERT(index < shard_count());
	return __atomic_load_n(&__atomic_load_n(&shard_table, __ATOMIC_ACQUIRE)[index], __ATOMIC_ACQUIRE);
}

static void wake(struct shard *s)
{
	/* sequentially consistent with the push before it: either we see it asleep or it sees the message */
	if (__atomic_load_n(&s->asleep, __ATOMIC_SEQ_CST) && __atomic_exchange_n(&s->asleep, 0, __ATOMIC_SEQ_CST))
		s->backend->wake(s->be, shard_current ? shard_current->be : NULL);
	SEEN_BY_KERNEL(s); /* a thread that is no shard asks for the stop by a signal after this, and has no other order with shard_close */
}

void shard_poke(struct shard *s)
{
	__atomic_store_n(&s->poked, 1, __ATOMIC_SEQ_CST);
	wake(s);
}

void shard_post(unsigned shard, struct post *p)
{
	struct shard *s = shard_at(shard);
	struct post *head = __atomic_load_n(&s->posts, __ATOMIC_RELAXED);
	do
		p->next = head;
	while (!__atomic_compare_exchange_n(&s->posts, &head, p, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	if (s != shard_current)
		wake(s);
}

void posts_run(struct shard *s)
{
	if (!__atomic_load_n(&s->posts, __ATOMIC_RELAXED))
		return;
	struct post *p = __atomic_exchange_n(&s->posts, NULL, __ATOMIC_ACQUIRE), *first = NULL;
	while (p) {
		struct post *older = p->next;
		p->next = first;
		first = p;
		p = older;
	}
	while (first) {
		p = first;
		first = p->next; /* p may be gone or posted again after run */
		p->run(p);
	}
}

/* ---- a call on another shard's fiber ---- */

struct call {
	struct post post;
	unsigned from, to;
	const char *what;
	void (*fn)(void *arg);
	void *arg;
	struct fiber *caller;
	enum err result;
	bool done;
};

static void call_returned(struct post *p)
{
	struct call *c = CONTAINER_OF(p, struct call, post);
	c->done = true;
	fiber_wake(c->caller);
}

static void go_back(struct call *c)
{
	c->post.run = call_returned;
	shard_post(c->from, &c->post);
}

static void call_body(void *arg)
{
	struct call *c = arg;
	c->fn(c->arg);
	go_back(c);
}

static void call_arrived(struct post *p)
{
	struct call *c = CONTAINER_OF(p, struct call, post);
	enum err e = fiber_run(c->what, call_body, c);
	if (e == OK)
		return; /* c may be gone: the caller, whose stack it is on, may have its answer already */
	c->result = e;
	go_back(c);
}

enum err shard_call(unsigned shard, const char *what, void (*fn)(void *arg), void *arg)
{
	struct call c = { .from = shard_index(), .to = shard, .what = what, .fn = fn, .arg = arg, .caller = fiber_self() };
	ASSERT(c.caller);
	if (shard == c.from) { /* here already, and on a fiber */
		fn(arg);
		return OK;
	}
	c.post.run = call_arrived;
	shard_post(shard, &c.post);
	while (!c.done)
		fiber_park();
	return c.result;
}
