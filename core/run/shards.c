/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shards.c - all shards of a process: threads, start, signals, stop.
 *
 * Each shard's thread opens its shard, then all meet; if one could not open, all close again and the reason is told once.
 * Then each runs `start` on a fiber and serves.  A stop runs `stop` on every shard that started; a shard goes on turning, and
 * answering the others, until all of them have come to rest: nothing runs, nothing is open.  After SHARD_STOP_WAIT_MS_MAX it ends all the same
 * and says what was still open.
 *
 * Signals are blocked in all threads; shard 0 reads SIGTERM, SIGINT and SIGHUP from a signalfd through its ring.
 */
#include "core/run/shard_private.h"

#include "core/base/log.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#ifdef PENFOLD_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

struct runner {
	struct process *process;
	pthread_t thread;
	unsigned index;
	struct shard *shard;
	bool started, stopped; /* `start` succeeded; `stop` has ended */
	bool rested;           /* counted in process->at_rest */
	struct io_op signal_op;
	struct signalfd_siginfo signal_info;
	int signal_fd;
};

struct process {
	const struct shards_config *config;
	struct shard_options options;
	unsigned count;
	struct offload *offload;
	struct runner runner[SHARDS_MAX];
	struct shard *shard[SHARDS_MAX];
	pthread_barrier_t barrier;
	bool refused; /* atomic: a shard could not open */
	int result;   /* atomic: enum err, the first that went wrong */
	unsigned starting, at_rest; /* atomic */
	char why[512];
	pthread_mutex_t why_lock;
};

static bool stopping; /* process-wide; atomic */

bool shard_stopping(void) { return __atomic_load_n(&stopping, __ATOMIC_ACQUIRE); }

void shards_stop(void)
{
	__atomic_store_n(&stopping, true, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < shard_count(); i++)
		if (shard_at(i)) /* not open yet: it will see the flag */
			shard_poke(shard_at(i));
}

static void fail(struct process *p, enum err e)
{
	int none = OK;
	__atomic_compare_exchange_n(&p->result, &none, (int)e, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	shards_stop();
}

/* ---- a shard's place on the machine ---- */

static void pin(const struct process *p, unsigned index)
{
	cpu_set_t allowed, one;
	if (!p->config->pin || sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || CPU_COUNT(&allowed) < (int)p->count)
		return;
	unsigned nth = 0;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || nth++ != index)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		(void)sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

/* An arena of its own: a shard's memory is never touched by another core's allocations. */
static void own_arena(void)
{
#ifdef PENFOLD_JEMALLOC
	unsigned arena;
	size_t bytes = sizeof(arena);
	if (mallctl("arenas.create", &arena, &bytes, NULL, 0) == 0)
		(void)mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena));
#endif
}

/* ---- signals ---- */

static void reload_body(void *arg)
{
	struct process *p = arg;
	p->config->reload(p->config->arg);
}

static void upgrade_body(void *arg)
{
	struct process *p = arg;
	p->config->upgrade(p->config->arg);
}

static void signal_came(struct io_op *op)
{
	struct runner *r = CONTAINER_OF(op, struct runner, signal_op);
	if (op->result == (int64_t)sizeof(r->signal_info)) {
		uint32_t which = r->signal_info.ssi_signo;
		log_event(LOG_INFO, "run.signal", LOG_U64("number", which));
		if (which == SIGHUP && r->process->config->reload)
			(void)fiber_start("reload", reload_body, r->process);
		else if (which == SIGUSR2 && r->process->config->upgrade)
			(void)fiber_start("upgrade", upgrade_body, r->process);
		else if (which == SIGTERM || which == SIGINT)
			shards_stop();
	} else if (op->result < 0 && op->result != -ECANCELED) {
		log_event(LOG_ERROR, "run.signalfd", LOG_ERRNO((int)-op->result));
		return;
	}
	if (!shard_stopping())
		io_read_fd(op, r->signal_fd, &r->signal_info, sizeof(r->signal_info));
}

static void watch_signals(struct runner *r)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (r->signal_fd < 0)
		return;
	io_op_init(&r->signal_op, signal_came);
	io_read_fd(&r->signal_op, r->signal_fd, &r->signal_info, sizeof(r->signal_info));
}

/* ---- a shard's life ---- */

static void start_body(void *arg)
{
	struct runner *r = arg;
	const struct shards_config *c = r->process->config;
	enum err e = c->start ? c->start(c->arg, r->index) : OK;
	r->started = e == OK;
	if (e != OK)
		fail(r->process, e);
	__atomic_sub_fetch(&r->process->starting, 1, __ATOMIC_SEQ_CST);
}

static void stop_body(void *arg)
{
	struct runner *r = arg;
	const struct shards_config *c = r->process->config;
	if (r->started && c->stop)
		c->stop(c->arg, r->index);
	r->stopped = true;
}

static void serve(struct runner *r)
{
	struct shard *s = r->shard;
	if (fiber_start("start", start_body, r) != OK)
		UNREACHABLE(); /* nothing has been started on this shard yet */
	if (r->index == 0)
		watch_signals(r);
	while (!shard_stopping() || __atomic_load_n(&r->process->starting, __ATOMIC_SEQ_CST) > 0)
		shard_turn(s, !shard_stopping());
}

/* True once this shard and all others have nothing left; it goes on answering others until then. */
static bool all_rest(struct runner *r)
{
	struct process *p = r->process;
	if (!r->rested && r->stopped && shard_idle(r->shard)) {
		r->rested = true;
		__atomic_add_fetch(&p->at_rest, 1, __ATOMIC_SEQ_CST);
	}
	return __atomic_load_n(&p->at_rest, __ATOMIC_SEQ_CST) == p->count;
}

static void beat_fire(struct timer *t) { (void)t; }

static void wind_down(struct runner *r)
{
	struct shard *s = r->shard;
	if (r->index == 0 && r->signal_fd >= 0)
		io_cancel(&r->signal_op);
	while (fiber_start("stop", stop_body, r) != OK)
		shard_turn(s, false);
	uint64_t rest_until_ms = 0;
	while (!all_rest(r)) {
		struct timer beat; /* looks at the others now and then */
		timer_init(&beat, beat_fire);
		timer_set(&beat, 1);
		shard_turn(s, true);
		timer_clear(&beat);
		if (!r->stopped || r->rested)
			continue;
		rest_until_ms = rest_until_ms ? rest_until_ms : s->now_ms + SHARD_STOP_WAIT_MS_MAX;
		if (s->now_ms < rest_until_ms)
			continue;
		log_event(LOG_ERROR, "run.stop_unfinished", LOG_U64("shard", r->index), LOG_U64("requests", s->requests.open),
		          LOG_U64("fibers", s->fibers.running));
		r->rested = true;
		__atomic_add_fetch(&r->process->at_rest, 1, __ATOMIC_SEQ_CST);
	}
}

static void *shard_thread(void *arg)
{
	struct runner *r = arg;
	struct process *p = r->process;
	char why[sizeof(p->why)];
	pin(p, r->index);
	own_arena();
	enum err e = shard_open(&p->options, r->index, p->offload, &r->shard, why, sizeof(why));
	if (e != OK) {
		pthread_mutex_lock(&p->why_lock);
		memcpy(p->why, why, sizeof(why));
		pthread_mutex_unlock(&p->why_lock);
		__atomic_store_n(&p->refused, true, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&p->shard[r->index], r->shard, __ATOMIC_RELEASE);
	pthread_barrier_wait(&p->barrier);
	if (!__atomic_load_n(&p->refused, __ATOMIC_SEQ_CST)) {
		serve(r);
		wind_down(r);
	}
	return NULL;
}

/* ---- all of them ---- */

static unsigned cores(void)
{
	cpu_set_t allowed;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&allowed);
}

static void run_threads(struct process *p)
{
	pthread_barrier_init(&p->barrier, NULL, p->count);
	pthread_mutex_init(&p->why_lock, NULL);
	p->refused = false;
	p->starting = p->count;
	memset(p->runner, 0, sizeof(p->runner));
	memset(p->shard, 0, sizeof(p->shard));
	shards_publish(p->shard, p->count);
	for (unsigned i = 0; i < p->count; i++) {
		struct runner *r = &p->runner[i];
		r->process = p;
		r->index = i;
		r->signal_fd = -1;
		/* without its threads there is no server, and those begun wait for the rest */
		ASSERT(pthread_create(&r->thread, NULL, shard_thread, r) == 0);
	}
	for (unsigned i = 0; i < p->count; i++)
		pthread_join(p->runner[i].thread, NULL);
	/* only now, and after the offload threads: whoever posted a shard's last message may still be about to wake it */
	offload_close(p->offload);
	p->offload = NULL;
	shards_publish(NULL, 0);
	for (unsigned i = 0; i < p->count; i++) {
		if (p->shard[i])
			shard_close(p->shard[i]);
		if (p->runner[i].signal_fd >= 0)
			close(p->runner[i].signal_fd);
	}
	__atomic_store_n(&stopping, false, __ATOMIC_SEQ_CST); /* shards may run again in this process: tests do */
	pthread_mutex_destroy(&p->why_lock);
	pthread_barrier_destroy(&p->barrier);
}

/* All shards or none: p->refused when one could not open. */
static enum err run_on(struct process *p, const struct io_backend *backend)
{
	p->options.backend = backend;
	p->offload = offload_open(p->config->offload_threads, p->config->offload_queue_max);
	if (!p->offload)
		return ERR_IO;
	backend_runs(backend);
	run_threads(p);
	return p->refused ? ERR_CONFIG : (enum err)p->result;
}

enum err shards_run(const struct shards_config *config)
{
	sigset_t all, before;
	struct process *p = xcalloc(1, sizeof(*p));
	p->config = config;
	p->count = config->count ? config->count : cores();
	p->count = p->count > SHARDS_MAX ? SHARDS_MAX : p->count;
	p->options.splice_min_bytes = config->splice_min_bytes;
	if (config->backend && shard_set_backend(config->backend) != OK) {
		log_event(LOG_ALARM, "run.refused", LOG_Z("why", "no such I/O back end: auto, io_uring and epoll are known"),
		          LOG_Z("backend", config->backend));
		free(p);
		return ERR_CONFIG;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	signal(SIGPIPE, SIG_IGN);
	enum err e = run_on(p, backend_wanted());
	if (p->refused && backend_refused(p->options.backend, p->why))
		e = run_on(p, backend_wanted());
	if (p->refused)
		log_event(LOG_ALARM, "run.refused", LOG_Z("backend", p->options.backend->name), LOG_Z("why", p->why));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	__atomic_store_n(&stopping, false, __ATOMIC_SEQ_CST); /* tests run several times in one process */
	free(p);
	return e;
}
