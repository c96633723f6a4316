/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber.c - stacks, switches and the ready queue.
 *
 * A fiber, once made, lives as long as its shard: its stack holds an endless loop "run the function, go back to the loop",
 * so that giving a stack out again is one switch.  The most recently used stack is given first: it is warm, and the
 * pages of those that are rarely needed are never touched.
 *
 * Only the loop switches to a fiber and a fiber only switches to the loop.  The sanitizers are told of every switch.
 */
#include "core/run/sanitize.h"
#include "core/run/shard_private.h"

#include <stdlib.h>
#include <sys/mman.h>

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(FIBER_UCONTEXT)
void fiber_switch(void **save_sp, void *load_sp);
void fiber_enter(void);
#else
#undef FIBER_UCONTEXT
#define FIBER_UCONTEXT 1 /* other machines; -DFIBER_UCONTEXT tries it here */
#include <ucontext.h>
#endif

#define GUARD_BYTES KIB(4)
#if defined(FIBER_ASAN) || defined(FIBER_TSAN)
#define STACK_BYTES (4 * FIBER_STACK_BYTES) /* instrumented frames are several times larger */
#else
#define STACK_BYTES FIBER_STACK_BYTES
#endif

struct fiber {
	void *sp;
	struct link link; /* in the ready queue */
	fair_class_t class;
	const char *what;
	void (*fn)(void *arg);
	void *arg;
	uint64_t since_ns; /* it has the shard since */
	bool parked, woken, finished;
	uint8_t wait; /* enum fiber_wait */
	struct fiber_waited waited;
	void *local;
	struct fiber *next_free, *next_all;
	char *stack;
	void *asan_fake, *tsan;
#ifdef FIBER_UCONTEXT
	ucontext_t context, loop_context;
#endif
};

/* ---- the switch ---- */

static void to_loop(struct fibers *fs, struct fiber *f)
{
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&f->asan_fake, fs->loop_stack, fs->loop_stack_bytes);
#endif
#ifdef FIBER_TSAN
	__tsan_switch_to_fiber(fs->loop_tsan, 0);
#endif
#ifdef FIBER_UCONTEXT
	(void)fs;
	swapcontext(&f->context, &f->loop_context);
#else
	fiber_switch(&f->sp, fs->loop_sp);
#endif
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(f->asan_fake, &fs->loop_stack, &fs->loop_stack_bytes);
#endif
}

static void from_loop(struct fibers *fs, struct fiber *f)
{
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&fs->loop_asan_fake, f->stack, STACK_BYTES);
#endif
#ifdef FIBER_TSAN
	fs->loop_tsan = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(f->tsan, 0);
#endif
#ifdef FIBER_UCONTEXT
	(void)fs;
	swapcontext(&f->loop_context, &f->context);
#else
	fiber_switch(&fs->loop_sp, f->sp);
#endif
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fs->loop_asan_fake, NULL, NULL);
#endif
}

/* The bottom of every fiber's stack. */
static void fiber_body(void)
{
	struct fibers *fs = &shard_current->fibers;
	struct fiber *f = fs->current;
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &fs->loop_stack, &fs->loop_stack_bytes);
#endif
	for (;;) {
		f->fn(f->arg);
		f->finished = true;
		to_loop(fs, f);
	}
}

static void lay_out_stack(struct fiber *f)
{
#ifdef FIBER_UCONTEXT
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK_BYTES;
	f->context.uc_link = NULL;
	makecontext(&f->context, fiber_body, 0);
#elif defined(__x86_64__)
	/* r15 r14 r13 r12 rbx rbp, return address; aligned so that the call in fiber_enter finds rsp as the ABI wants it */
	void **sp = (void **)(void *)(f->stack + STACK_BYTES - 64);
	sp -= 7;
	sp[4] = (void *)(uintptr_t)fiber_body;
	sp[6] = (void *)(uintptr_t)fiber_enter;
	f->sp = sp;
#else
	void **sp = (void **)(void *)(f->stack + STACK_BYTES - 64);
	sp -= 20; /* x19.. x30, d8..d15 */
	sp[0] = (void *)(uintptr_t)fiber_body;
	sp[11] = (void *)(uintptr_t)fiber_enter;
	f->sp = sp;
#endif
}

/* ---- the pool ---- */

static struct fiber *make_fiber(struct fibers *fs)
{
	char *map = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (mprotect(map, GUARD_BYTES, PROT_NONE) < 0) {
		munmap(map, GUARD_BYTES + STACK_BYTES);
		return NULL;
	}
	struct fiber *f = xcalloc(1, sizeof(*f));
	f->stack = map + GUARD_BYTES;
	link_init(&f->link);
	lay_out_stack(f);
#ifdef FIBER_TSAN
	f->tsan = __tsan_create_fiber(0);
#endif
	f->next_all = fs->all;
	fs->all = f;
	fs->made++;
	return f;
}

void fibers_init(struct fibers *fs)
{
	*fs = (struct fibers){ 0 };
	fair_init(&fs->ready);
	fair_init(&fs->starts);
	list_init(&fs->entries_free);
	for (size_t i = 0; i < FAIR_CLASSES; i++)
		list_init(&fs->beyond[i]);
}

static void free_entries(struct list *entries)
{
	for (struct link *l; (l = list_pop_front(entries));)
		free(CONTAINER_OF(l, struct fiber_start_entry, link));
}

void fibers_release(struct fibers *fs)
{
	struct fiber *next;
	for (struct fiber *f = fs->all; f; f = next) {
		next = f->next_all;
#ifdef FIBER_TSAN
		__tsan_destroy_fiber(f->tsan);
#endif
#ifdef FIBER_ASAN
		/* what the frames at the bottom of the stack have poisoned would outlive the mapping */
		__asan_unpoison_memory_region(f->stack, STACK_BYTES);
#endif
		munmap(f->stack - GUARD_BYTES, GUARD_BYTES + STACK_BYTES);
		free(f);
	}
	for (size_t i = 0; i < FAIR_CLASSES; i++)
		free_entries(&fs->beyond[i]);
	for (struct link *l; (l = fair_pop(&fs->starts));)
		free(CONTAINER_OF(l, struct fiber_start_entry, link));
	free_entries(&fs->entries_free);
	fibers_init(fs);
}

static struct fiber *take_fiber(struct fibers *fs)
{
	struct fiber *f = fs->free;
	if (f)
		fs->free = f->next_free;
	else if (fs->made < FIBERS_PER_SHARD_MAX)
		f = make_fiber(fs);
	if (!f)
		return NULL;
	fs->running++;
	if (fs->running > fs->high_water)
		fs->high_water = fs->running;
	f->parked = f->woken = f->finished = false;
	f->wait = FIBER_WAIT_STORE;
	f->waited = (struct fiber_waited){ 0 };
	f->local = NULL;
	return f;
}

/* ---- starts ---- */

static bool has_room(const struct fibers *fs, fair_class_t class) { return !class || fs->admitted[class] < FIBERS_PER_CLASS_MAX; }

static enum err queue_push(struct fibers *fs, const struct fiber_start_entry *e)
{
	if (fs->queue_count == FIBER_QUEUE_MAX)
		return ERR_BUSY;
	struct link *l = list_pop_front(&fs->entries_free);
	struct fiber_start_entry *kept = l ? CONTAINER_OF(l, struct fiber_start_entry, link) : xmalloc(sizeof(*kept));
	*kept = *e;
	link_init(&kept->link);
	fs->queue_count++;
	if (!has_room(fs, e->whose)) {
		list_push_back(&fs->beyond[e->whose], &kept->link);
		return OK;
	}
	fs->admitted[e->whose]++;
	fair_push(&fs->starts, e->whose, &kept->link);
	return OK;
}

/* A class has one stack less: one of its starts that was beyond its share may now wait for a stack. */
static void leave_class(struct fibers *fs, fair_class_t class)
{
	fs->admitted[class]--;
	struct link *l = has_room(fs, class) ? list_pop_front(&fs->beyond[class]) : NULL;
	if (!l)
		return;
	fs->admitted[class]++;
	fair_push(&fs->starts, class, l);
}

/* Runs a fiber from the loop until it parks or ends; then its stack goes to the next start that waits for one. */
static void run(struct shard *s, struct fiber *f, uint64_t now_ns)
{
	struct fibers *fs = &s->fibers;
	ASSERT(!fs->current);
	fs->current = f;
	f->since_ns = now_ns;
	from_loop(fs, f);
	fs->current = NULL;
	if (!f->finished)
		return;
	fs->running--;
	f->next_free = fs->free;
	fs->free = f;
	leave_class(fs, f->class);
}

static void start(struct fiber *f, const struct fiber_start_entry *e)
{
	f->what = e->what;
	f->fn = e->fn;
	f->arg = e->arg;
	f->class = e->whose;
}

/* A stack for a start that need not wait for one. */
static struct fiber *begin(struct fibers *fs, const struct fiber_start_entry *e)
{
	struct fiber *f = fair_empty(&fs->starts) && has_room(fs, e->whose) ? take_fiber(fs) : NULL;
	if (!f)
		return NULL;
	fs->admitted[e->whose]++;
	start(f, e);
	return f;
}

static enum err start_soon(const struct fiber_start_entry *e)
{
	struct fibers *fs = &shard_current->fibers;
	struct fiber *f = begin(fs, e);
	if (!f)
		return queue_push(fs, e);
	fair_push(&fs->ready, f->class, &f->link);
	return OK;
}

enum err fiber_start(const char *what, void (*fn)(void *arg), void *arg)
{
	return start_soon(&(struct fiber_start_entry){ .what = what, .fn = fn, .arg = arg });
}

/* Turns are given by fibers_run; to begin at once is to jump the queue, which is fair only while there is none. */
static bool may_jump(const struct shard *s, fair_class_t class, uint64_t now_ns)
{
	return !s->fibers.current && (!class || (!s->fibers.ready.line[class].count && now_ns - s->now_ns < FIBERS_TURN_NS));
}

enum err fiber_run_for(fair_class_t class, const char *what, void (*fn)(void *arg), void *arg)
{
	struct shard *s = shard_current;
	struct fiber_start_entry e = { .whose = class, .what = what, .fn = fn, .arg = arg };
	uint64_t now_ns = s->backend->boot_ns(s->be);
	struct fiber *f = may_jump(s, class, now_ns) ? begin(&s->fibers, &e) : NULL;
	if (!f)
		return start_soon(&e);
	run(s, f, now_ns);
	return OK;
}

enum err fiber_run(const char *what, void (*fn)(void *arg), void *arg) { return fiber_run_for(0, what, fn, arg); }

bool fibers_waiting(const struct fibers *fs)
{
	return !fair_empty(&fs->ready) || (!fair_empty(&fs->starts) && fs->running < FIBERS_PER_SHARD_MAX);
}

/* A stack for the start whose class has its turn. */
static struct fiber *next_start(struct fibers *fs)
{
	struct fiber *f = fair_empty(&fs->starts) ? NULL : take_fiber(fs);
	struct link *l = f ? fair_pop(&fs->starts) : NULL;
	if (!l)
		return NULL;
	struct fiber_start_entry *e = CONTAINER_OF(l, struct fiber_start_entry, link);
	start(f, e);
	fs->queue_count--;
	list_push_front(&fs->entries_free, &e->link);
	return f;
}

void fibers_run(struct shard *s, unsigned max)
{
	struct fibers *fs = &s->fibers;
	uint64_t began_ns = 0;
	for (unsigned i = 0; i < max && fibers_waiting(fs); i++) {
		struct link *l = fair_pop(&fs->ready);
		struct fiber *f = l ? CONTAINER_OF(l, struct fiber, link) : next_start(fs);
		if (!f)
			return;
		uint64_t now_ns = s->backend->boot_ns(s->be);
		began_ns = began_ns ? began_ns : now_ns;
		run(s, f, now_ns);
		if (now_ns - began_ns >= FIBERS_TURN_NS)
			return; /* what has come meanwhile has a right to its turn */
	}
}

/* ---- what a fiber may do ---- */

struct fiber *fiber_self(void) { return shard_current ? shard_current->fibers.current : NULL; }

fair_class_t fiber_class(void)
{
	const struct fiber *f = fiber_self();
	return f ? f->class : 0;
}

void fiber_set_class(fair_class_t class)
{
	struct fibers *fs = &shard_current->fibers;
	struct fiber *f = fs->current;
	ASSERT(f && class < FAIR_CLASSES);
	if (f->class == class)
		return;
	fair_class_t before = f->class;
	f->class = class;
	fs->admitted[class]++;
	leave_class(fs, before);
}

void fiber_park(void)
{
	struct fibers *fs = &shard_current->fibers;
	struct fiber *f = fs->current;
	ASSERT(f);
	if (f->woken) {
		f->woken = false;
		return;
	}
	uint64_t from_ns = shard_current->backend->boot_ns(shard_current->be);
	f->parked = true;
	to_loop(fs, f);
	f->waited.ns[f->wait] += f->since_ns - from_ns; /* since_ns: it runs again */
}

void fiber_wake(struct fiber *f)
{
	if (!f->parked) {
		f->woken = true; /* running, or ready already: its next park returns at once */
		return;
	}
	f->parked = false;
	fair_push(&shard_current->fibers.ready, f->class, &f->link);
}

enum fiber_wait fiber_wait_for(enum fiber_wait what)
{
	struct fiber *f = fiber_self();
	enum fiber_wait before = f ? (enum fiber_wait)f->wait : FIBER_WAIT_STORE;
	if (f)
		f->wait = (uint8_t)what;
	return before;
}

struct fiber_waited fiber_waited(void)
{
	const struct fiber *f = fiber_self();
	return f ? f->waited : (struct fiber_waited){ 0 };
}

void fiber_set_local(void *local)
{
	ASSERT(fiber_self());
	fiber_self()->local = local;
}

void *fiber_local(void) { return fiber_self() ? fiber_self()->local : NULL; }

void fiber_yield(void)
{
	struct fibers *fs = &shard_current->fibers;
	struct fiber *f = fs->current;
	ASSERT(f);
	fair_push(&fs->ready, f->class, &f->link);
	to_loop(fs, f);
}

void fiber_breathe(void)
{
	struct shard *s = shard_current;
	if (s->backend->boot_ns(s->be) - s->fibers.current->since_ns >= FIBER_SLICE_NS)
		fiber_yield();
}

/* A wake at a time, for one parked fiber. */
struct alarm {
	struct timer timer;
	struct fiber *fiber;
	bool rang;
};

static void alarm_fire(struct timer *t)
{
	struct alarm *a = CONTAINER_OF(t, struct alarm, timer);
	a->rang = true;
	fiber_wake(a->fiber);
}

void fiber_sleep(uint64_t ms)
{
	struct alarm a = { .fiber = fiber_self() };
	timer_init(&a.timer, alarm_fire);
	timer_set(&a.timer, ms);
	while (!a.rang)
		fiber_park();
}

struct waiting {
	struct link link;
	struct fiber *fiber;
};

void waitq_init(struct waitq *q) { list_init(&q->waiters); }

enum err waitq_wait(struct waitq *q, uint64_t deadline_ms)
{
	struct waiting w = { .fiber = fiber_self() };
	struct alarm a = { .fiber = w.fiber };
	ASSERT(w.fiber);
	timer_init(&a.timer, alarm_fire);
	if (deadline_ms) {
		uint64_t now = clock_now_ms();
		if (deadline_ms <= now)
			return ERR_TIMEOUT;
		timer_set(&a.timer, deadline_ms - now);
	}
	list_push_back(&q->waiters, &w.link);
	while (link_linked(&w.link) && !a.rang)
		fiber_park();
	timer_clear(&a.timer);
	if (!link_linked(&w.link))
		return OK; /* woken, even if the time passed at the same moment: the wake must not be lost */
	link_remove(&w.link);
	return ERR_TIMEOUT;
}

bool waitq_wake_one(struct waitq *q)
{
	struct link *l = list_pop_front(&q->waiters);
	if (!l)
		return false;
	fiber_wake(CONTAINER_OF(l, struct waiting, link)->fiber);
	return true;
}

void waitq_wake_all(struct waitq *q)
{
	while (waitq_wake_one(q))
		;
}

void fiber_stats(struct fiber_stats *out)
{
	const struct fibers *fs = &shard_current->fibers;
	*out = (struct fiber_stats){ .running = fs->running, .free = FIBERS_PER_SHARD_MAX - fs->running, .queued = fs->queue_count,
		                     .high_water = fs->high_water };
}
