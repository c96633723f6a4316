/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - binding on the main thread, accepting on every shard, stopping in order.
 *
 * A TCP listener has one socket per shard that share the port (SO_REUSEPORT), so that the kernel spreads connections and
 * no two shards contend.  Sharing would also let a second server of the same user take the port unnoticed, so the first socket is
 * preceded by a probe that shares with nobody.
 *
 * A process that replaces another gets its sockets (listeners_inherit).  All of them must be accepted from, or who waits in one would be
 * refused when it is closed: where there are more of an address than shards, the others become listeners of their own, behind those that the
 * configuration has, taken by all shards; where there are fewer, shards share them.
 *
 * Sockets from the service manager ("systemd:NAME", given.h) are one each, accepted by all shards, and still the manager's when we are
 * gone: they are never shut down and their files never unlinked.
 */
#include "core/base/log.h"
#include "core/run/socket.h"
#include "net/given.h"
#include "net/net_private.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct listener {
	const struct proto *proto;
	struct addr address; /* with the port that was given */
	enum listen_tls tls;
	bool plaintext;
	struct tls_rules tls_rules;
	enum listen_proxy proxy;
	struct cidr *trusted;
	size_t trusted_count;
	unsigned fds_count;  /* one per shard, or one for all */
	bool given;          /* by the service manager */
	unsigned unix_mode;
	int fd[SHARDS_MAX];
};

/* A shard's part in a listener. */
struct listener_share {
	struct io_op accept;
	struct listener *listener;
	struct net_shard *shard;
	bool paused;
};

/* ---- binding ---- */

static enum err refuse(const struct listener_config *config, int result, const char *hint)
{
	log_event(LOG_ERROR, "net.listen_failed", LOG_Z("where", config->where), LOG_Z("address", config->address), LOG_ERRNO(result),
	          LOG_Z("hint", hint));
	switch (-result) {
	case EADDRINUSE:
		return ERR_IN_USE;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case EADDRNOTAVAIL:
	case EINVAL:
	case ENOENT:
	case ENOTDIR:
		return ERR_CONFIG;
	default:
		return ERR_IO;
	}
}

static const char *hint_for(int result)
{
	switch (-result) {
	case EADDRINUSE:
		return "another program listens there";
	case EACCES:
	case EPERM:
		return "no permission: ports below 1024 need CAP_NET_BIND_SERVICE, sockets a writable folder";
	case EADDRNOTAVAIL:
		return "this host has no such address";
	case ENOENT:
	case ENOTDIR:
		return "the folder of the socket does not exist";
	default:
		return "the kernel refused";
	}
}

/* One socket more; negative errno. */
static int bind_next(struct listener *l)
{
	int r = l->fds_count ? 0 : socket_probe(&l->address);
	if (r >= 0)
		r = socket_listen(&l->address, true, l->unix_mode);
	if (r < 0)
		return r;
	l->fd[l->fds_count++] = r;
	if (l->fds_count == 1)
		l->address = socket_local(r);
	return 0;
}

/* A process that was killed is gone before its ring is: the kernel takes the accepts in it back a little later, and until then
 * they hold the sockets.  Who starts again at once must not fail for that. */
static int bind_patiently(struct listener *l)
{
	const struct timespec pause = { .tv_nsec = NET_BIND_PAUSE_MS * 1000000L };
	int r = bind_next(l);
	for (unsigned waited_ms = 0; r == -EADDRINUSE && waited_ms < NET_BIND_WAIT_MS; waited_ms += NET_BIND_PAUSE_MS) {
		nanosleep(&pause, NULL);
		r = bind_next(l);
	}
	return r;
}

/* All of a listener but its sockets. */
static enum err describe(const struct listener_config *config, struct listener *l)
{
	ASSERT(config->tls == LISTEN_TLS_NONE || config->mutual || tls_ready());
	l->proto = config->proto;
	l->tls = config->tls;
	l->plaintext = config->plaintext;
	l->unix_mode = config->unix_mode ? config->unix_mode : 0666;
	l->proxy = config->proxy;
	l->trusted_count = config->trusted_count;
	l->trusted = xcalloc(config->trusted_count + 1, sizeof(*l->trusted));
	if (config->trusted_count)
		memcpy(l->trusted, config->trusted, config->trusted_count * sizeof(*l->trusted));
	l->tls_rules = (struct tls_rules){ .tls13_only = config->tls13_only,
					   .alpn = config->proto->alpn,
					   .client = config->client,
					   .client_name = config->client_name,
					   .mutual = config->mutual };
	if (config->client != TLS_CLIENT_UNASKED && client_ca_open(config->client_ca, config->where, &l->tls_rules.client_ca) != OK)
		return ERR_CONFIG;
	return OK;
}

/* ---- sockets of the process before us ---- */

static struct {
	struct listen_given *sockets; /* fd -1: taken */
	size_t count;
} inherited; /* the main thread's */

void listeners_inherit(const struct listen_given *sockets, size_t count)
{
	ASSERT(!inherited.sockets);
	inherited.sockets = xcalloc(count + 1, sizeof(*sockets));
	inherited.count = count;
	if (count)
		memcpy(inherited.sockets, sockets, count * sizeof(*sockets));
}

/* One that listens there, or -1. */
static int inherited_take(const struct addr *address)
{
	for (size_t i = 0; i < inherited.count; i++) {
		struct listen_given *g = &inherited.sockets[i];
		int fd = g->fd;
		if (fd < 0 || !addr_eq(&g->address, address))
			continue;
		g->fd = -1;
		return fd;
	}
	return -1;
}

/* True: it has sockets, and needs no others. */
static bool bind_inherited(const struct listener_config *config, struct listener *l, unsigned count)
{
	int fd;
	while (l->fds_count < count && (fd = inherited_take(&l->address)) >= 0)
		l->fd[l->fds_count++] = fd;
	while (l->fds_count == count && (fd = inherited_take(&l->address)) >= 0) {
		struct listener *more = &net_process.listeners[net_process.listeners_count++];
		(void)describe(config, more); /* it was good a moment ago; of a client_ca that is not any more nothing is believed */
		more->address = l->address;
		more->fd[more->fds_count++] = fd;
	}
	return l->fds_count > 0;
}

static void inherited_close(void)
{
	for (size_t i = 0; i < inherited.count; i++) {
		const struct listen_given *g = &inherited.sockets[i];
		if (g->fd < 0)
			continue;
		if (addr_is_unix(&g->address))
			unlink(g->address.u.un.sun_path);
		close(g->fd);
	}
	free(inherited.sockets);
	inherited.sockets = NULL;
	inherited.count = 0;
}

static enum err bind_one(const struct listener_config *config, struct listener *l, unsigned shards)
{
	if (addr_parse(slice_str(config->address), &l->address) != OK)
		return refuse(config, -EINVAL, "expected address:port, [address]:port, unix:/path or systemd:name");
	unsigned count = addr_is_unix(&l->address) ? 1 : shards;
	int r = 0;
	if (bind_inherited(config, l, count))
		return OK;
	while (r >= 0 && l->fds_count < count)
		r = bind_patiently(l);
	return r < 0 ? refuse(config, r, hint_for(r)) : OK;
}

/* The name in "systemd:name"; a slice without a pointer for other addresses. */
static struct slice given_name(const struct listener_config *config)
{
	struct slice address = slice_str(config->address), prefix = SLICE_LIT(GIVEN_ADDRESS);
	return slice_eq(slice_upto(address, prefix.len), prefix) ? slice_from(address, prefix.len) : slice_of(NULL, 0);
}

static enum err adopt(const struct listener_config *config, struct listener *l, int fd)
{
	l->given = true;
	l->fd[l->fds_count++] = fd;
	int r = socket_adopt(fd);
	l->address = socket_local(fd);
	return r < 0 ? refuse(config, r, "what the service manager gave by this name is no stream socket that listens") : OK;
}

/* A name may stand for several sockets (IPv4 and IPv6, say): the first is this listener's, the others become listeners behind all that
 * the configuration has, so that those keep their numbers. */
static enum err bind_given(const struct listener_config *config, struct listener *l)
{
	int fd = given_take(given_name(config));
	if (fd < 0)
		return refuse(config, -ENOENT, "no socket of this name came from the service manager: see FileDescriptorName= of its socket unit");
	enum err e = adopt(config, l, fd);
	while (e == OK && (fd = given_take(given_name(config))) >= 0) {
		struct listener *more = &net_process.listeners[net_process.listeners_count++];
		e = describe(config, more);
		if (e == OK)
			e = adopt(config, more, fd);
		else
			close(fd);
	}
	return e;
}

static enum err bind_all(const struct listener_config *configs, unsigned count, unsigned shards)
{
	enum err e = OK;
	for (unsigned i = 0; i < count && e == OK; i++) {
		struct listener *l = &net_process.listeners[i];
		e = describe(&configs[i], l);
		if (e == OK)
			e = given_name(&configs[i]).ptr ? bind_given(&configs[i], l) : bind_one(&configs[i], l, shards);
	}
	return e;
}

enum err listeners_bind(const struct listener_config *configs, unsigned count, unsigned shards)
{
	ASSERT(!net_process.listeners && shards && shards <= SHARDS_MAX);
	net_process.listeners = xcalloc(count + GIVEN_SOCKETS_MAX + inherited.count, sizeof(struct listener));
	net_process.listeners_count = count;
	random_bytes(&net_process.class_seed, sizeof net_process.class_seed);
	__atomic_store_n(&net_process.stopping, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&net_process.ready, 0, __ATOMIC_SEQ_CST);
	given_open();
	enum err e = bind_all(configs, count, shards);
	given_close();
	inherited_close();
	if (e != OK)
		listeners_unbind();
	return e;
}

void listeners_each(void (*visit)(void *arg, int fd, const struct addr *address), void *arg)
{
	for (unsigned i = 0; i < net_process.listeners_count; i++)
		for (unsigned k = 0; k < net_process.listeners[i].fds_count; k++)
			visit(arg, net_process.listeners[i].fd[k], &net_process.listeners[i].address);
}

void listeners_unbind(void)
{
	for (unsigned i = 0; i < net_process.listeners_count; i++) {
		struct listener *l = &net_process.listeners[i];
		for (unsigned k = 0; k < l->fds_count; k++)
			close(l->fd[k]);
		if (l->fds_count && addr_is_unix(&l->address) && !l->given && !__atomic_load_n(&net_process.handed_over, __ATOMIC_SEQ_CST))
			unlink(l->address.u.un.sun_path);
		free(l->trusted);
	}
	free(net_process.listeners);
	net_process.listeners = NULL;
	net_process.listeners_count = 0;
}

struct addr listeners_address(unsigned index)
{
	ASSERT(index < net_process.listeners_count);
	return net_process.listeners[index].address;
}

const struct tls_rules *listener_tls_rules(const struct listener *l) { return &l->tls_rules; }
enum listen_tls listener_tls(const struct listener *l) { return l->tls; }
bool listener_plaintext(const struct listener *l) { return l->plaintext; }

static struct listener peers; /* no socket: only how connections to other nodes are to be; written before the shards start */

struct listener *listener_of_peers(void) { return &peers; }

void listeners_dial(const struct tls_mutual *mutual)
{
	peers.tls = mutual ? LISTEN_TLS_IMPLICIT : LISTEN_TLS_NONE;
	peers.tls_rules = (struct tls_rules){ .mutual = mutual, .dials = true };
}
enum listen_proxy listener_proxy(const struct listener *l) { return l->proxy; }

bool listener_trusts(const struct listener *l, const struct addr *proxy)
{
	return addr_is_unix(&l->address) || cidrs_have(l->trusted, l->trusted_count, proxy);
}

/* ---- accepting ---- */

/* May this connection stay?  Bounds by address stand in conn_admit. */
static bool admitted(void)
{
	return __atomic_load_n(&net_process.connections, __ATOMIC_RELAXED) < net_process.settings.connections_max;
}

static int fd_of(const struct listener_share *share)
{
	const struct listener *l = share->listener;
	return l->fd[share->shard->index % l->fds_count];
}

/* While paused such a socket goes on listening, and its connections are closed at once: shut down, a unix socket could not be brought
 * back, and one of the service manager's would make it give up. */
static bool keeps_listening(const struct listener *l) { return addr_is_unix(&l->address) || l->given; }

static void accept_again(struct listener_share *share) { io_accept(&share->accept, fd_of(share)); }

static void accept_failed(struct listener_share *share)
{
	STAT_ADD(share->shard, accept_errors, 1);
	if (share->shard->stats->accept_errors % 64 == 1)
		log_event(LOG_ERROR, "net.accept_failed", LOG_Z("protocol", share->listener->proto->name), LOG_ERRNO(share->accept.result),
		          LOG_U64("failures", share->shard->stats->accept_errors));
}

/* Invariant 8: a shard that lags keeps what it has and gives what is new to the one with the fewest sessions that does not. */
static unsigned least_loaded(unsigned here)
{
	unsigned best = here;
	uint64_t fewest = UINT64_MAX;
	if (LIKELY(shard_lag_ns(here) <= NET_LAG_NS_MAX))
		return here;
	for (unsigned i = 0; i < shard_count(); i++) {
		uint64_t open = __atomic_load_n(&net_process.shard[i].stats.open, __ATOMIC_RELAXED);
		if (shard_lag_ns(i) <= NET_LAG_NS_MAX && open < fewest) {
			best = i;
			fewest = open;
		}
	}
	return best;
}

/* A connection on its way to the shard that is to greet it. */
struct fresh {
	struct post post;
	struct listener *listener;
	int fd;
};

static void fresh_arrived(struct post *p)
{
	struct fresh *f = CONTAINER_OF(p, struct fresh, post);
	if (net_shard_here()->stopping)
		io_close(f->fd);
	else
		(void)conn_open(f->listener->proto, f->listener, f->fd);
	__atomic_fetch_sub(&net_process.moving, 1, __ATOMIC_SEQ_CST);
	free(f);
}

/* False: the server stops, and the other shard may have ended already. */
static bool hand_over(struct listener *listener, int fd, unsigned to)
{
	__atomic_fetch_add(&net_process.moving, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&net_process.stopping, __ATOMIC_SEQ_CST)) {
		__atomic_fetch_sub(&net_process.moving, 1, __ATOMIC_SEQ_CST);
		return false;
	}
	struct fresh *f = xmalloc(sizeof *f);
	*f = (struct fresh){ .post = { .run = fresh_arrived }, .listener = listener, .fd = fd };
	shard_post(to, &f->post);
	return true;
}

/* No place for anybody. */
static void refuse_all(const struct listener *l, int fd)
{
	char line[NET_REFUSAL_BYTES_MAX];
	uint64_t times = source_count_refusal(LIMIT_ALL);
	if ((times & (times - 1)) == 0 || times % 4096 == 0)
		log_event(LOG_WARN, "net.refused", LOG_Z("protocol", l->proto->name), LOG_Z("limit", limit_word(LIMIT_ALL)), LOG_U64("times", times));
	if (l->proto->refused && l->tls != LISTEN_TLS_IMPLICIT)
		socket_say(fd, slice_of(line, l->proto->refused(LIMIT_ALL, line)));
	io_close(fd);
}

static void accepted(struct listener_share *share, int fd)
{
	if (share->paused || !admitted()) {
		STAT_ADD(share->shard, refused, 1);
		if (share->paused)
			io_close(fd); /* as if nobody listened: the next node is asked */
		else
			refuse_all(share->listener, fd);
		return;
	}
	STAT_ADD(share->shard, accepted, 1);
	unsigned to = least_loaded(share->shard->index);
	if (to == share->shard->index || !hand_over(share->listener, fd, to))
		(void)conn_open(share->listener->proto, share->listener, fd);
}

/* No error here ends accepting: the door pauses by itself while descriptors are short, anything else is begun again. */
static void accept_done(struct io_op *op)
{
	struct listener_share *share = CONTAINER_OF(op, struct listener_share, accept);
	struct net_shard *sh = share->shard;
	if (op->result >= 0 && sh->stopping)
		io_close((int)op->result);
	else if (op->result >= 0)
		accepted(share, (int)op->result);
	else if (!sh->stopping && !share->paused && op->result != -ECANCELED)
		accept_failed(share);
	if (op->more)
		return;
	if (sh->stopping)
		waitq_wake_all(&sh->emptied);
	else if (!sh->handed_over && (!share->paused || keeps_listening(share->listener)))
		accept_again(share);
}

/* ---- pausing ---- */

static void pause_one(struct listener_share *share)
{
	share->paused = true;
	if (!keeps_listening(share->listener))
		(void)socket_listen_pause(fd_of(share));
}

static void resume_one(struct listener_share *share)
{
	int r = keeps_listening(share->listener) ? 0 : socket_listen_again(fd_of(share));
	share->paused = false;
	if (r < 0)
		log_event(LOG_ALARM, "net.listen_again_failed", LOG_Z("protocol", share->listener->proto->name), LOG_ERRNO(r));
	else if (!share->accept.pending) /* else its end is on its way, and begins again */
		accept_again(share);
}

static void set_paused(bool paused)
{
	struct net_shard *sh = net_shard_here();
	for (unsigned i = 0; !sh->stopping && !sh->handed_over && i < net_process.listeners_count; i++) {
		struct listener_share *share = &sh->shares[i];
		if (share->paused != paused && share->listener->proto->describe)
			(paused ? pause_one : resume_one)(share);
	}
}

void listeners_pause(void) { set_paused(true); }
void listeners_resume(void) { set_paused(false); }

void listeners_look_again(void)
{
	struct net_shard *sh = net_shard_here();
	for (unsigned i = 0; !sh->stopping && !sh->handed_over && i < net_process.listeners_count; i++)
		io_cancel(&sh->shares[i].accept);
}

uint32_t listeners_moving(void) { return __atomic_load_n(&net_process.moving, __ATOMIC_SEQ_CST); }

void listeners_hand_over(void)
{
	struct net_shard *sh = net_shard_here();
	if (sh->stopping || sh->handed_over)
		return;
	sh->handed_over = true;
	__atomic_store_n(&net_process.handed_over, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < net_process.listeners_count; i++)
		io_cancel(&sh->shares[i].accept);
}

bool listeners_paused(void)
{
	const struct net_shard *sh = net_shard_here();
	bool paused = false;
	for (unsigned i = 0; i < net_process.listeners_count; i++)
		paused |= sh->shares[i].paused;
	return paused;
}

/* A session may move to any shard, so nothing is accepted before all of them can take one. */
static bool all_ready(void)
{
	__atomic_fetch_add(&net_process.ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&net_process.ready, __ATOMIC_SEQ_CST) < shard_count()) {
		if (shard_stopping())
			return false; /* another shard could not start */
		fiber_sleep(1);
	}
	return true;
}

enum err listeners_start(void)
{
	net_shard_open();
	if (!all_ready()) {
		net_shard_close();
		return ERR_TEMP;
	}
	struct net_shard *sh = net_shard_here();
	sh->shares = xcalloc(net_process.listeners_count + 1, sizeof(*sh->shares));
	for (unsigned i = 0; i < net_process.listeners_count; i++) {
		struct listener_share *share = &sh->shares[i];
		share->listener = &net_process.listeners[i];
		share->shard = sh;
		io_op_init(&share->accept, accept_done);
		accept_again(share);
	}
	return OK;
}

/* ---- stopping ---- */

static bool accepting(const struct net_shard *sh)
{
	for (unsigned i = 0; i < net_process.listeners_count; i++) {
		if (sh->shares[i].accept.pending)
			return true;
	}
	return false;
}

static void each_session(struct net_shard *sh, void (*what)(struct net_private *c))
{
	LIST_FOREACH(&sh->sessions, l)
		what(CONTAINER_OF(l, struct net_private, link));
}

/* What is left after the grace. */
static void kill_one(struct net_private *c)
{
	if (!c->aborted)
		conn_fail(c, END_STOP);
}

static void name_one(struct net_private *c)
{
	log_event(LOG_WARN, "net.session_will_not_end", LOG_U64("session", conn_session(c)->id), LOG_Z("protocol", conn_session(c)->proto->name),
	          LOG_BOOL("in_handler", c->running));
}

static bool at_rest(const struct net_shard *sh)
{
	return list_empty(&sh->sessions) && !accepting(sh) && !__atomic_load_n(&net_process.moving, __ATOMIC_SEQ_CST);
}

/* A session may be on its way from another shard: it will not wake us, so we look now and then. */
static bool wait_for_rest(struct net_shard *sh, uint32_t ms)
{
	uint64_t until = clock_now_ms() + ms;
	while (!at_rest(sh) && clock_now_ms() < until)
		waitq_wait(&sh->emptied, min_u64(until, clock_now_ms() + NET_RETRY_MS));
	return at_rest(sh);
}

void listeners_stop(uint32_t grace_ms)
{
	struct net_shard *sh = net_shard_here();
	sh->stopping = true;
	__atomic_store_n(&net_process.stopping, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < net_process.listeners_count; i++)
		io_cancel(&sh->shares[i].accept);
	each_session(sh, session_stop);
	if (!wait_for_rest(sh, grace_ms)) {
		each_session(sh, kill_one);
		while (!wait_for_rest(sh, NET_STOP_WARN_MS))
			each_session(sh, name_one);
	}
	free(sh->shares);
	net_shard_close();
}
