/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - see serve.h. */
#include "net/server/serve.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/shard.h"
#include "net/fleet/fleet.h"
#include "net/imap/imap.h"
#include "net/listen.h"
#include "net/lmtp/lmtp.h"
#include "net/peer/peer.h"
#include "net/pop3/pop3.h"
#include "net/sasl_gssapi.h"
#include "net/server/admin.h"
#include "net/server/admin_verbs.h"
#include "net/server/drain.h"
#include "net/server/expire.h"
#include "net/server/http.h"
#include "net/server/notify.h"
#include "net/server/probe.h"
#include "net/server/log_writer.h"
#include "net/server/purge.h"
#include "net/server/redis_watch.h"
#include "net/server/reload.h"
#include "net/server/status.h"
#include "net/server/tls_watch.h"
#include "net/server/upgrade.h"
#include "net/server/withdraw.h"
#include "storage/gate.h"
#include "storage/mime.h"
#include "storage/store.h"
#include "net/tls.h"
#include "net/tls_filter.h"
#include "net/tls_mutual.h"
#include "net/verb.h"
#include "tenancy/auth.h"
#include "tenancy/directory.h"
#include "tenancy/limit.h"
#include "tenancy/maildrop_lock.h"
#include "tenancy/source.h"
#include "tenancy/usage.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct server {
	const struct config *config;
	struct store_config store;
	struct fleet_node *nodes; /* the configuration's, in the fleet's form */
	struct tls_filter_config redis_tls;
	struct redis_filter redis_filter;
	struct tls_mutual *peer_tls; /* NULL: nodes speak in the clear, or not at all */
	struct redis_secret *redis_secret; /* redis.password_file's; NULL: there is none */
	uint32_t connections_max; /* as descriptors allow */
	struct redis_settings redis; /* for the directory */
};

/* ---- what each room gets of the configuration ---- */

static void store_part(const struct config *c, struct store_config *out)
{
	store_config_default(out);
	out->data_path = c->data;
	out->warm_bytes_max = c->store.warm_bytes_max;
	out->seal_bytes = c->store.seal_bytes;
	out->memory_body_bytes = c->store.memory_body_bytes;
	out->file_body_bytes = c->store.file_body_bytes;
	out->message_bytes_max = c->store.message_bytes_max;
	out->reserve_bytes = c->store.reserve_bytes;
	out->flags_sync_ms = c->store.flags_sync_ms;
	out->commit_ms_max = c->store.commit_ms_max;
	out->scrub_days = c->store.scrub_days;
	out->log_fds_max = c->store.log_fds_max;
	out->shared = c->placement_any;
	out->lock_fd = upgrade_lock_fd();
	out->node = c->placement_any ? c->node : NULL;
}

static struct redis_settings redis_part(const struct config *c)
{
	struct redis_settings r = {
		.addresses = (const char *const *)c->redis.addresses,
		.address_count = c->redis.addresses_count,
		.user = c->redis.user,
		.password = c->redis.password,
		.database = c->redis.database,
		.client_name = c->node,
		.cluster = c->redis.cluster,
		.connect_ms_max = c->redis.connect_ms_max,
		.answer_ms_max = c->redis.answer_ms_max,
	};
	r.sentinel.master = c->redis.sentinel.master;
	r.sentinel.addresses = (const char *const *)c->redis.sentinel.addresses;
	r.sentinel.address_count = c->redis.sentinel.addresses_count;
	r.sentinel.user = c->redis.sentinel.user;
	r.sentinel.password = c->redis.sentinel.password;
	return r;
}

/* Sessions are passed on among nodes that can prove to be nodes. */
static bool proxies(const struct config *c) { return c->peer.address && (c->peer.certificate || c->peer.secret); }

static enum err open_peers(struct server *server)
{
	const struct config *c = server->config;
	const struct tls_mutual_config tls = { c->peer.certificate, c->peer.key, c->peer.ca, c->peer.where };
	const struct peer_config peer = { slice_str(c->peer.secret), { &pop3_proto, &imap_proto, &lmtp_proto, &admin_proto } };
	peer_configure(&peer);
	enum err e = c->peer.certificate ? tls_mutual_open(&tls, &server->peer_tls) : OK;
	listeners_dial(server->peer_tls);
	return e;
}

static enum err open_fleet(struct server *server)
{
	const struct config *c = server->config;
	struct fleet_config fleet;
	fleet_config_default(&fleet);
	server->nodes = xcalloc(c->nodes_count + 1, sizeof *server->nodes);
	for (unsigned i = 0; i < c->nodes_count; i++)
		server->nodes[i] = (struct fleet_node){ c->nodes[i].name, c->nodes[i].address };
	fleet.node = c->node;
	fleet.placement = c->placement_any ? PLACEMENT_ANY : PLACEMENT_HOME;
	fleet.peer_address = proxies(c) ? c->peer.address : NULL;
	fleet.proxies = proxies(c);
	fleet.nodes = server->nodes;
	fleet.node_count = c->nodes_count;
	fleet.run_path = c->data;
	fleet.redis_on = c->redis.addresses_count > 0 || c->redis.sentinel.master;
	fleet.redis = redis_part(c);
	if (c->redis.password_file) {
		server->redis_secret = redis_secret_open(c->redis.password);
		fleet.redis.secret = server->redis_secret;
		redis_watch_configure(c->redis.password_file, server->redis_secret);
	}
	fleet.ttl_ms = c->redis.ttl_ms;
	fleet.renew_ms = c->redis.renew_ms;
	fleet.margin_ms = c->redis.margin_ms;
	fleet.idle_ms = c->redis.idle_ms;
	fleet.take_wait_ms = c->redis.take_wait_ms;
	if (c->redis.tls && fleet.redis_on) {
		server->redis_tls = (struct tls_filter_config){ c->redis.tls_ca, c->redis.tls_name, c->redis.tls_certificate, c->redis.tls_key,
								c->redis.where_tls_ca, c->redis.where_tls_certificate };
		enum err e = tls_filter_open(&server->redis_tls, &server->redis_filter);
		if (e != OK)
			return e;
		fleet.redis.filter = &server->redis_filter;
	}
	server->redis = fleet.redis;
	server->redis.client_name = "penfold-directory";
	return fleet_open(&fleet);
}

static void close_fleet(struct server *server)
{
	fleet_close();
	tls_filter_close(&server->redis_filter);
	redis_secret_close(server->redis_secret);
	free(server->nodes);
}

static void configure_pop3(const struct config *c)
{
	sasl_configure((enum sasl_challenge)c->auth.challenge);
	struct pop3_config pop3;
	pop3_config_default(&pop3);
	pop3.host_name = c->hostname;
	pop3.implementation = "Penfold-" PENFOLD_VERSION;
	pop3.login_idle_ms_max = c->pop3.login_idle_s * 1000;
	pop3.idle_ms_max = c->pop3.idle_s * 1000;
	pop3.auth_tries_max = c->pop3.auth_failures_max;
	pop3.expire_day_s = c->expire.day_s;
	expire_configure(c->expire.day_s, c->expire.sweep_s);
	pop3.xmit.relay.address = c->xmit.address;
	pop3.xmit.relay.protocol = c->xmit.smtp ? RELAY_SMTP : RELAY_LMTP;
	pop3.xmit.relay.host_name = c->hostname;
	pop3.xmit.relay.connect_ms_max = c->xmit.connect_ms_max;
	pop3.xmit.relay.answer_ms_max = c->xmit.answer_ms_max;
	pop3.xmit.relay.data_ms_max = c->xmit.data_ms_max;
	pop3.xmit.message_bytes_max = c->xmit.message_bytes_max;
	pop3.xmit.rcpts_max = c->xmit.recipients_max;
	pop3.xmit.rcpts_per_hour_max = c->xmit.recipients_per_hour_max;
	pop3_configure(&pop3);
}

/* Now and at SIGHUP. */
static void configure_limits(const struct config *c, uint32_t connections_max)
{
	struct limits_config l;
	limits_config_default(&l);
	l.per_address = c->limits.connections_per_address;
	l.per_net24 = c->limits.connections_per_net24;
	l.per_net64 = c->limits.connections_per_net64;
	l.per_net48 = c->limits.connections_per_net48;
	l.waiting = c->limits.unauthenticated_max ? c->limits.unauthenticated_max : connections_max / 2;
	l.waiting_per_address = c->limits.unauthenticated_per_address;
	l.per_account = c->limits.sessions_per_account;
	l.per_tenant = c->limits.sessions_per_tenant;
	l.failures_free = c->limits.failures_free;
	l.name_failures_free = c->limits.login_failures_free;
	l.delay_first_ms = c->limits.delay_first_ms;
	l.delay_ms_max = c->limits.delay_ms_max;
	l.forget_s = c->limits.forget_s;
	l.cache_bytes_max = c->limits.cache_bytes_max;
	l.exempt = c->limits.exempt;
	l.exempt_count = c->limits.exempt_count;
	limits_configure(&l);
}

static void configure_lmtp(const struct config *c)
{
	struct lmtp_config lmtp;
	lmtp_config_default(&lmtp);
	lmtp.host_name = c->hostname;
	lmtp.message_bytes_max = c->store.message_bytes_max;
	lmtp.idle_ms_max = c->lmtp.idle_s * 1000;
	lmtp.rcpts_max = c->lmtp.recipients_max;
	lmtp.junk_name = c->lmtp.junk_name;
	lmtp.junk_value = c->lmtp.junk_value;
	lmtp_configure(&lmtp);
}

static void configure_imap(const struct config *c)
{
	struct imap_config imap;
	imap_config_default(&imap);
	imap.host_name = c->hostname;
	imap.implementation = "Penfold";
	imap.version = PENFOLD_VERSION;
	imap.login_idle_ms_max = c->imap.login_idle_s * 1000;
	imap.idle_ms_max = c->imap.idle_s * 1000;
	imap.auth_tries_max = c->imap.auth_failures_max;
	imap.progress_ms = c->imap.progress_ms;
	imap.message_bytes_max = c->store.message_bytes_max;
	imap_configure(&imap);
}

/* ---- the process ---- */

static int64_t wall_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A connection is a descriptor: take all that the system lets us have; returns how many that is. */
static uint64_t raise_descriptor_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return DESCRIPTORS_LEAST;
	if (r.rlim_cur < r.rlim_max) {
		rlim_t soft = r.rlim_cur;
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) != 0)
			r.rlim_cur = soft;
	}
	return r.rlim_cur;
}

/* Connections first, a quarter for the store's logs, some for everything else (DESIGN section 4). */
static void share_descriptors(const struct config *c, struct server *server)
{
	struct store_config *store = &server->store;
	struct net_settings net;
	uint64_t all = raise_descriptor_limit(), quarter = all / 4;
	uint64_t most = all > quarter + DESCRIPTORS_LEAST ? all - quarter - DESCRIPTORS_LEAST : DESCRIPTORS_LEAST;
	if (store->log_fds_max > quarter)
		store->log_fds_max = (uint32_t)quarter;
	net_settings_default(&net);
	net.connections_max = (uint32_t)min_u64(most, c->net.connections_max ? c->net.connections_max : UINT32_MAX);
	net.stall_ms_max = c->net.stall_s * 1000;
	net_configure(&net);
	server->connections_max = net.connections_max;
}

/* Started as root with `user` set: the data folder is opened as that user, the ports are bound as root, and then root is
 * given up for good.  A ring keeps the credentials of its birth, so this is over before the shards begin. */
static enum err find_user(const struct config *c, struct passwd **pw_out)
{
	const char *user = c->user;
	*pw_out = NULL;
	if (!user || geteuid() != 0)
		return OK;
	*pw_out = getpwnam(user);
	if (*pw_out)
		return OK;
	log_event(LOG_ERROR, "server.user_unknown", LOG_Z("where", c->where_user), LOG_Z("user", user), LOG_Z("expected", "a user of this system"));
	return ERR_CONFIG;
}

static enum err act_as(const struct passwd *pw, bool for_good)
{
	if (!pw)
		return OK;
	int r = seteuid(0);
	if (r == 0)
		r = initgroups(pw->pw_name, pw->pw_gid);
	if (r == 0)
		r = for_good ? setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) : setegid(pw->pw_gid);
	if (r == 0)
		r = for_good ? setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) : seteuid(pw->pw_uid);
	if (r == 0)
		return OK;
	log_event(LOG_ERROR, "server.user_failed", LOG_Z("user", pw->pw_name), LOG_ERRNO(errno));
	return ERR_CONFIG;
}

static enum err refuse_data(const struct config *c, int error)
{
	log_event(LOG_ERROR, "server.data_unusable", LOG_Z("where", c->where_data), LOG_Z("data", c->data), LOG_ERRNO(error),
		  LOG_Z("expected", "a folder that this user may write"));
	return ERR_CONFIG;
}

static enum err make_data(const struct config *c, const struct passwd *pw)
{
	const char *path = c->data;
	int r = mkdir(path, 0700);
	if (r == 0 && pw)
		r = chown(path, pw->pw_uid, pw->pw_gid);
	if (r == 0 || errno == EEXIST)
		return OK;
	return refuse_data(c, errno);
}

static enum err check_data(const struct config *c)
{
	const char *path = c->data;
	struct stat st;
	errno = 0;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode) && eaccess(path, R_OK | W_OK | X_OK) == 0)
		return OK;
	return refuse_data(c, errno ? errno : ENOTDIR);
}

static enum err lock_data(const struct config *c, const struct store_config *store)
{
	enum err e = store_lock(store);
	if (e == ERR_IN_USE)
		log_event(LOG_ERROR, "server.data_in_use", LOG_Z("where", c->where_data), LOG_Z("data", c->data),
			  LOG_Z("hint", "another server or tool works on this folder"));
	else if (e != OK && e != ERR_CONFIG) /* a foreign format has been told */
		log_event(LOG_ERROR, "server.data_unusable", LOG_Z("where", c->where_data), LOG_Z("data", c->data), LOG_ERR(e));
	return e;
}

static void open_gate(void *arg)
{
	const struct config *c = arg;
	if (gate_open(c->data) != OK)
		log_event(LOG_ERROR, "server.data_unusable", LOG_Z("where", c->where_data), LOG_Z("data", c->data));
}

/* The process that we take over from goes on for a while. */
static enum err share_accounts(const struct config *c)
{
	if (!upgrade_takes_over())
		return OK;
	enum err e = shard_run_alone(open_gate, (void *)(uintptr_t)c);
	return e != OK ? e : gate_is_open() ? OK : ERR_IO;
}

static const struct proto *proto_of(enum config_protocol protocol)
{
	switch (protocol) {
	case CONFIG_POP3:
		return &pop3_proto;
	case CONFIG_LMTP:
		return &lmtp_proto;
	case CONFIG_IMAP:
		return &imap_proto;
	}
	UNREACHABLE();
}

static enum err bind_all(const struct server *server, unsigned shards, const struct passwd *pw)
{
	const struct config *c = server->config;
	unsigned count = c->listeners_count + 1;
	struct listener_config *configs = xcalloc(c->listeners_count + 2, sizeof *configs);
	char *admin = xmalloc(strlen(c->admin_socket) + 8);
	for (unsigned i = 0; i < c->listeners_count; i++) {
		configs[i].proto = proto_of(c->listeners[i].protocol);
		configs[i].address = c->listeners[i].address;
		configs[i].where = c->listeners[i].where;
		configs[i].tls = c->listeners[i].tls == CONFIG_TLS_IMPLICIT	? LISTEN_TLS_IMPLICIT
				 : c->listeners[i].tls == CONFIG_TLS_STARTTLS ? LISTEN_TLS_STARTTLS
									       : LISTEN_TLS_NONE;
		configs[i].tls13_only = c->listeners[i].tls13_only;
		configs[i].plaintext = c->listeners[i].plaintext;
		configs[i].proxy = c->listeners[i].proxy == CONFIG_PROXY_REQUIRED  ? LISTEN_PROXY_REQUIRED
				   : c->listeners[i].proxy == CONFIG_PROXY_TRUSTED ? LISTEN_PROXY_TRUSTED
										   : LISTEN_PROXY_NONE;
		configs[i].trusted = c->listeners[i].trusted;
		configs[i].trusted_count = c->listeners[i].trusted_count;
		configs[i].client = (enum tls_client_wish)c->listeners[i].client_certificate;
		configs[i].client_name = (enum client_name)c->listeners[i].client_name;
		configs[i].client_ca = c->listeners[i].client_ca;
	}
	sprintf(admin, "unix:%s", c->admin_socket);
	configs[c->listeners_count].proto = &admin_proto;
	configs[c->listeners_count].address = admin;
	configs[c->listeners_count].where = c->where_admin_socket;
	configs[c->listeners_count].unix_mode = c->admin.mode;
	if (proxies(c)) {
		configs[count].proto = &peer_proto;
		configs[count].address = c->peer.address;
		configs[count].where = c->peer.where;
		configs[count].tls = server->peer_tls ? LISTEN_TLS_IMPLICIT : LISTEN_TLS_NONE;
		configs[count].mutual = server->peer_tls;
		configs[count++].unix_mode = 0600;
	}
	enum err e = listeners_bind(configs, count, shards);
	if (e == OK && (pw || c->admin.group_set) &&
	    chown(c->admin_socket, pw ? pw->pw_uid : (uid_t)-1, c->admin.group_set ? c->admin.group : pw->pw_gid) != 0)
		log_event(LOG_WARN, "server.admin_socket", LOG_Z("path", c->admin_socket), LOG_ERRNO(errno));
	free(configs);
	free(admin);
	return e;
}

static enum err open_tls(const struct config *c)
{
	const struct tls_config tls = { c->tls.certificate, c->tls.key, c->tls.certificates, c->tls.ticket_keys, c->tls.cache_bytes_max,
					c->tls.where_certificate, c->tls.where_certificates, c->tls.where_ticket_keys, c->tls.expiry_warn_days };
	return tls.certificate || tls.folder ? tls_open_process(&tls) : OK;
}

/* ---- on each shard ---- */

static enum err shard_begin(void *arg, unsigned index)
{
	struct server *server = arg;
	(void)index;
	enum err e = store_start(&server->store);
	if (e == OK)
		e = directory_start();
	if (e == OK)
		e = maildrop_lock_start();
	if (e == OK)
		e = fleet_start();
	if (e == OK)
		e = listeners_start();
	if (e == OK) {
		drain_start();
		probe_start();
		notify_start();
		purge_start();
		expire_start();
		withdraw_start();
		usage_start();
		tls_watch_start();
		redis_watch_start();
		upgrade_start();
	} else {
		log_event(LOG_ERROR, "server.shard_failed", LOG_U64("shard", index), LOG_ERR(e));
	}
	return e;
}

/* Listeners and sessions first, so that nobody asks any more; then the store commits and seals. */
static void shard_end(void *arg, unsigned index)
{
	struct server *server = arg;
	(void)index;
	upgrade_stop();
	notify_stop();
	probe_stop();
	withdraw_stop();
	usage_stop();
	drain_stop();
	listeners_stop(server->config->net.stop_grace_ms);
	redis_watch_stop();
	tls_watch_stop();
	expire_stop();
	purge_stop();
	fleet_stop();
	maildrop_lock_stop();
	directory_stop();
	store_stop();
}

/* What may change while sessions go on (reload.h). */
static void apply(void *arg, const struct config *fresh)
{
	const struct server *server = arg;
	log_set_level(fresh->log_level);
	log_set_form(fresh->log_form);
	verb_set_slow_ms(fresh->slow_ms);
	tls_watch_now();
	configure_limits(fresh, server->connections_max);
}

static void hangup(void *arg)
{
	(void)arg;
	json_decref(reload_now());
}

static void upgrade(void *arg)
{
	(void)arg;
	json_t *answer = upgrade_begin(UPGRADE_OVER_MS);
	const char *error = json_string_value(json_object_get(answer, "error"));
	if (error)
		log_event(LOG_ERROR, "server.upgrade_refused", LOG_Z("reason", error));
	json_decref(answer);
}

/* ---- start to end ---- */

/* One more than there are cores: jobs that wait for the disk do not keep a core from hashing. */
static unsigned offload_threads(const struct config *c)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	return c->io.offload_threads ? c->io.offload_threads : (unsigned)(cores > 0 ? cores : 1) + 1;
}

static enum err serve_shards(struct server *server, unsigned shards)
{
	const struct config *c = server->config;
	struct shards_config run = {
		.count = shards,
		.pin = c->io.pin,
		.offload_threads = offload_threads(c),
		.offload_queue_max = c->io.offload_queue_max,
		.backend = c->io.backend,
		.splice_min_bytes = c->io.splice_min_bytes,
		.start = shard_begin,
		.stop = shard_end,
		.reload = hangup,
		.upgrade = upgrade,
		.arg = server,
	};
	log_event(LOG_INFO, "server.start", LOG_Z("version", PENFOLD_VERSION), LOG_U64("shards", shards), LOG_Z("data", c->data),
		  LOG_U64("listeners", c->listeners_count), LOG_U64("pid", (uint64_t)getpid()), LOG_U64("charsets", mime_charsets_load()));
	admin_configure(c->node);
	status_configure(c->node);
	reload_configure(c, apply, server);
	log_writer_start();
	struct http *http = NULL;
	probe_open(shards, c->http_loop_s);
	notify_open();
	enum err e = c->http_address ? http_open(c, upgrade_http_fd(), &http) : OK;
	upgrade_configure(c, http);
	if (e == OK)
		e = shards_run(&run);
	http_close(http);
	log_writer_stop();
	log_event(e == OK ? LOG_INFO : LOG_ERROR, "server.end", LOG_ERR(e));
	return e;
}

static enum err serve_locked(struct server *server, unsigned shards)
{
	const struct config *c = server->config;
	struct directory_config directory = { .data_path = c->data,
					      .default_domain = c->default_domain,
					      .sources = c->directories,
					      .source_count = c->directories_count,
					      .redis = &server->redis,
					      .cache_bytes_max = c->directory.cache_bytes_max,
					      .poll_ms = c->directory.poll_ms,
					      .ask_ms_max = c->directory.ask_ms_max };
	struct auth_config auth = { .cache_bytes_max = c->auth.cache_bytes_max,
				    .cache_ttl_s = c->auth.cache_ttl_s,
				    .hash_queue_max = c->auth.hash_queue_max,
				    .hash_wait_ms_max = c->auth.hash_wait_ms_max,
				    .master_separator = c->auth.master_separator,
				    .oauth = { c->oauth.keys, c->oauth.where_keys, c->oauth.issuer, c->oauth.audience, c->oauth.username_claim,
					       c->oauth.leeway_s },
				    /* one thread stays free of hashes, so that look-ups do not stand behind them */
				    .hash_parallel_max = offload_threads(c) > 1 ? offload_threads(c) - 1 : 1 };
	char secret[4096];
	if ((size_t)snprintf(secret, sizeof secret, "%s/scram.secret", c->data) < sizeof secret)
		auth.secret_path = secret;
	const struct sasl_gssapi_config gssapi = { c->gssapi.keytab, c->gssapi.where_keytab, c->gssapi.realm, c->gssapi.domain };
	enum err e = directory_open(&directory);
	if (e != OK)
		return e;
	e = auth_open(&auth);
	if (e == OK) {
		source_open_process(c->limits.cache_bytes_max);
		e = sasl_gssapi_open(&gssapi);
		if (e == OK)
			e = usage_open(c->data, shards);
		if (e == OK)
			e = serve_shards(server, shards);
		usage_close();
		sasl_gssapi_close();
		source_close_process();
		auth_close();
	}
	directory_close();
	return e;
}

int serve(const struct config *config)
{
	struct server server = { .config = config };
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned shards = config->shards ? config->shards : (unsigned)(cores > 0 ? cores : 1);
	signal(SIGPIPE, SIG_IGN);
	log_set_clock(wall_ms);
	log_set_level(config->log_level);
	log_set_form(config->log_form);
	verb_set_slow_ms(config->slow_ms);
	if (upgrade_inherit() != OK)
		return 2;
	store_part(config, &server.store);
	share_descriptors(config, &server);
	configure_limits(config, server.connections_max);
	configure_pop3(config);
	configure_lmtp(config);
	configure_imap(config);

	struct passwd *pw;
	enum err e = find_user(config, &pw);
	if (e == OK)
		e = make_data(config, pw);
	if (e == OK)
		e = act_as(pw, false);
	if (e == OK)
		e = check_data(config);
	if (e == OK)
		e = lock_data(config, &server.store);
	if (e == OK)
		e = share_accounts(config);
	if (e == OK && (e = open_fleet(&server)) != OK)
		store_unlock();
	if (e != OK) {
		close_fleet(&server);
		return 2;
	}
	if (pw && seteuid(0) != 0)
		e = ERR_CONFIG;
	if (e == OK)
		e = open_tls(config); /* as root where we are, for the first time: later the files are read as the user */
	if (e == OK)
		e = open_peers(&server);
	if (e == OK)
		e = bind_all(&server, shards, pw);
	if (e == OK) {
		e = act_as(pw, true);
		if (e == OK)
			e = serve_locked(&server, shards);
		listeners_unbind();
	}
	tls_close_process();
	tls_mutual_close(server.peer_tls);
	close_fleet(&server);
	store_unlock();
	return e == OK ? 0 : e == ERR_CONFIG || e == ERR_IN_USE || e == ERR_DENIED ? 2 : 1;
}
