/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.c - a login and its proof become a subject.
 *
 * The road of a password: who is meant (directory, mostly cached) - was it right a moment ago (verified.h) - else a turn at
 * a hash, then the offload pool.  Whoever is not found walks the same road with a hash of the same cost that cannot match
 * (invariant 11): that of a neighbour in the domain, or one of the default scheme.
 *
 * The turns: at most hash_parallel_max hashes run at once, at most hash_queue_max logins wait, over all shards, each until its deadline
 * (invariants 7 and 12).  Who waits stands in the line of the tenant whose login it is, or, for a name in nobody's domain, of the
 * network it comes from; the lines are served in turn (core/base/fair.h).  One network's logins never keep all of its stacks waiting here.  The last quarter of the places
 * is for tenants and networks that have less than a quarter of all themselves, so that guessing at one tenant leaves room for the others, and
 * guessing from one network for the tenant's own users.
 */
#include "tenancy/auth_private.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "tenancy/app_password.h"
#include "tenancy/app_used.h"
#include "tenancy/cross_wait.h"
#include "tenancy/password.h"
#include "tenancy/saslprep.h"
#include "tenancy/scram.h"
#include "tenancy/tenant_class.h"
#include "tenancy/usage.h"
#include "tenancy/verified.h"

#include <nettle/base16.h>
#include <nettle/hmac.h>
#include <nettle/md5.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct {
	struct auth_config config;
	struct verified *verified;
	uint8_t salt_secret[32];               /* what made-up SCRAM salts come from */
	char dummy[STORED_PASSWORD_BYTES_MAX]; /* what unknown names are checked against; nobody knows its password */
	char fast_dummy[STORED_PASSWORD_BYTES_MAX]; /* as application passwords are kept */
	pthread_mutex_t lock;                  /* of what follows */
	struct fair waiting;                   /* struct cross_wait */
	uint32_t from[FAIR_CLASSES];           /* of them, by the class of the fiber that waits: before login, its network */
	uint32_t running;
	struct auth_stats stats;
} auth;

/* ---- turns ---- */

static void count(uint64_t *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

static bool has_place(fair_class_t class, fair_class_t from)
{
	uint32_t max = auth.config.hash_queue_max, share = (uint32_t)max_u64(max / 4, HASH_SHARE_MIN);
	if (from && auth.from[from] >= HASH_NETWORK_MAX)
		return false;
	bool modest = auth.waiting.line[class].count < share && auth.from[from] < share;
	return auth.waiting.count < (modest ? max : max - max / 4);
}

static enum err turn_take(fair_class_t class, uint64_t deadline_ms)
{
	fair_class_t from = fiber_class();
	struct cross_wait w;
	pthread_mutex_lock(&auth.lock);
	if (auth.running < auth.config.hash_parallel_max) {
		auth.running++;
		pthread_mutex_unlock(&auth.lock);
		return OK;
	}
	if (!has_place(class, from)) {
		auth.stats.shed++;
		pthread_mutex_unlock(&auth.lock);
		return ERR_BUSY;
	}
	cross_wait_init(&w);
	fair_push(&auth.waiting, class, &w.link);
	auth.from[from]++;
	pthread_mutex_unlock(&auth.lock);
	enum err e = cross_wait_fair(&w, &auth.waiting, class, &auth.lock, deadline_ms);
	pthread_mutex_lock(&auth.lock);
	auth.from[from]--;
	auth.stats.shed += e != OK;
	pthread_mutex_unlock(&auth.lock);
	return e;
}

/* The turn passes to the first of the line whose turn it is. */
static void turn_give(void)
{
	pthread_mutex_lock(&auth.lock);
	struct link *next = fair_pop(&auth.waiting);
	if (next)
		cross_wake(CONTAINER_OF(next, struct cross_wait, link));
	else
		auth.running--;
	pthread_mutex_unlock(&auth.lock);
}

/* The job on the offload pool, when its turn has come; both within the deadline. */
static enum err in_turn(fair_class_t class, void (*job)(void *), void *arg)
{
	enum fiber_wait before = fiber_wait_for(FIBER_WAIT_HASH);
	uint64_t deadline_ms = clock_now_ms() + auth.config.hash_wait_ms_max;
	enum err e = turn_take(class, deadline_ms);
	if (!e) {
		uint64_t now_ms = clock_now_ms();
		count(&auth.stats.hashes);
		e = offload_call(job, arg, deadline_ms > now_ms ? deadline_ms - now_ms : 1);
		turn_give();
	}
	(void)fiber_wait_for(before);
	return e;
}

enum err auth_in_turn(void (*job)(void *), void *arg) { return in_turn(fiber_class(), job, arg); }

static fair_class_t class_of(const struct login_found *found) { return found->domain ? tenant_class(found->domain->tenant_id) : fiber_class(); }

/* The name as it was sent, then in the form of RFC 4013. */
static enum err find_either(struct slice login, struct login_found *found_out)
{
	struct saslprep room;
	enum err e = directory_find(LOGIN_SESSION, login, found_out);
	struct slice form = e == ERR_NOT_FOUND ? saslprep(login, &room) : login;
	if (form.ptr == login.ptr)
		return e;
	login_found_release(found_out);
	return directory_find(LOGIN_SESSION, form, found_out);
}

/* ---- the hash ---- */

struct check {
	fair_class_t class; /* in whose line it waits */
	const struct record *record; /* NULL: nobody */
	struct slice dummy;
	struct slice password;
	uint32_t hashes_min;         /* a wrong password costs at least so many */
	enum auth_protocol protocol;
	bool as_master;              /* then application passwords are not good enough */
	bool right;
	uint64_t app_id;             /* when right by an application password that has an id */
};

static void check_form(struct check *c, struct slice password)
{
	uint32_t hashes = 0, fast = 0, known = c->record ? c->record->passwords_count : 0;
	c->right = false;
	c->app_id = 0;
	for (uint32_t i = 0; i < known && !c->right; i++) {
		const struct credential *about = &c->record->credentials[i];
		bool matches = password_matches(c->record->passwords[i], password);
		c->right = matches && (about->protocols & 1 << c->protocol) && !(about->app && c->as_master);
		c->app_id = c->right && about->app ? about->id : 0;
		hashes += !about->app;
		fast += about->app;
	}
	/* Who has application passwords, or nothing else, must not be told by the time: they are kept by a fast hash, so that everybody can pay
	 * for as many as one may have. */
	for (; fast < CREDENTIALS_PER_ACCOUNT_MAX && !c->right; fast++)
		(void)password_matches(slice_str(auth.fast_dummy), password);
	for (; hashes < c->hashes_min && !c->right; hashes++)
		(void)password_matches(c->dummy, password);
}

/* As it was typed, for hashes made elsewhere; then in the form that all keyboards agree on, if that is another. It is the password that
 * decides whether there is a second time, not the name (invariant 11). */
static void check_job(void *arg)
{
	struct check *c = arg;
	struct saslprep room;
	struct slice form = saslprep(c->password, &room);
	check_form(c, c->password);
	if (!c->right && form.ptr != c->password.ptr)
		check_form(c, form);
	explicit_bzero(&room, sizeof(room));
}

/* An SDPS host's maildrop has two passwords, so that a wrong one costs two hashes: then it does so, too, for every login that could name a
 * host or share a domain with one, or time would tell which do (invariant 11). */
static uint32_t hashes_min(struct slice login, const struct login_found *found)
{
	if (!directory_has_maildrops())
		return 1;
	if (found->domain && found->domain->sdps == SDPS_MAILDROP)
		return SDPS_PASSWORDS_MAX;
	size_t at = slice_rfind(login, '@');
	bool short_host = at == SIZE_MAX || slice_find(slice_from(login, at + 1), '.') == SIZE_MAX;
	return short_host ? SDPS_PASSWORDS_MAX : 1;
}

/* ---- the answer ---- */

static bool protocol_allowed(const struct subject *s, enum auth_protocol protocol)
{
	switch (protocol) {
	case AUTH_POP3:
		return s->pop3;
	case AUTH_IMAP:
		return s->imap;
	case AUTH_LMTP:
		return s->lmtp;
	}
	UNREACHABLE();
}

/* Whose login it would have been: the domain's, for a name that nobody has. NULL: no name was looked for. */
static void charge(const struct login_found *found, enum usage_counter counter)
{
	usage_add(!found ? 0 : found->record ? found->record->subject.tenant_id : found->domain ? found->domain->tenant_id : 0, counter, 1);
}

enum err auth_refuse(const struct login_found *found)
{
	count(&auth.stats.refused);
	charge(found, USAGE_LOGINS_FAILED);
	return ERR_AUTH;
}

/* The proof was right. */
static enum err admit_as_of(const struct auth_request *request, const struct login_found *found, struct subject **subject_out)
{
	struct subject *s = &found->record->subject;
	if (request->authzid.len && !slice_eq(request->authzid, request->login) && !slice_eq_nocase(request->authzid, s->name)) {
		return auth_refuse(found); /* acting for somebody else takes a master's password: by_master() */
	}
	if (s->suspended || !protocol_allowed(s, request->protocol)) {
		count(&auth.stats.denied);
		charge(found, USAGE_LOGINS_FAILED);
		return ERR_DENIED;
	}
	charge(found, USAGE_LOGINS);
	if (found->user.len) /* one user of a host's maildrop */
		*subject_out = &record_for_user(found->record, found->user)->subject;
	else
		*subject_out = subject_ref(s);
	return OK;
}

enum err auth_find(const struct auth_request *request, struct slice login, struct login_found *found_out)
{
	enum err e = find_either(login, found_out);
	if ((e != OK && e != ERR_NOT_FOUND) || !request->in_clear || !found_out->domain || found_out->domain->plaintext_login)
		return e;
	count(&auth.stats.denied);
	return ERR_DENIED;
}

enum err auth_in_clear(struct slice login)
{
	return directory_wants_tls(login) ? ERR_DENIED : OK;
}

/* A hash takes its time, and its turn more: a suspension that was seen meanwhile has ended the sessions there were and must hold for this
 * one too.  A proof is worth nothing for a name that now means another account or has another password. */
enum err auth_admit(const struct auth_request *request, const struct login_found *found, struct subject **subject_out)
{
	if (found->changes == directory_changes())
		return admit_as_of(request, found, subject_out);
	const struct subject *then = &found->record->subject;
	struct login_found now;
	enum err e = find_either(request->login, &now);
	if (e == OK && (now.record->subject.account_id != then->account_id || now.record->subject.credential_version != then->credential_version))
		e = ERR_NOT_FOUND;
	e = e == OK ? admit_as_of(request, &now, subject_out) : e == ERR_NOT_FOUND ? auth_refuse(found) : e;
	login_found_release(&now);
	return e;
}

/* Whoever proves: OK or ERR_AUTH, or ask again. Nothing is counted as refused. */
static enum err prove_password(const struct auth_request *request, struct slice login, const struct login_found *found, struct slice password,
			       bool as_master)
{
	struct verified_mac mac = { { 0, 0 } };
	bool known = found->record && found->record->passwords_count;
	if (known) {
		mac = verified_mac(auth.verified, found->record, password, (unsigned)request->protocol | (as_master ? 1u << 8 : 0));
		if (verified_has(auth.verified, mac, clock_now_ms())) {
			count(&auth.stats.verified_hits);
			return OK;
		}
	}
	bool sample = found->domain && found->domain->sample.len;
	struct check c = {
		.class = class_of(found),
		.record = found->record,
		.dummy = sample ? found->domain->sample : slice_str(auth.dummy),
		.password = password,
		.hashes_min = hashes_min(login, found),
		.protocol = request->protocol,
		.as_master = as_master,
	};
	enum err e = in_turn(c.class, check_job, &c);
	if (e)
		return e;
	if (!c.right)
		return ERR_AUTH;
	if (c.app_id)
		app_used_note(c.app_id, clock_wall_s());
	verified_put(auth.verified, mac, clock_now_ms());
	return OK;
}

/* ---- masters ---- */

/* Invariant 11: a master of one tenant reaches nobody else's. */
static bool may_act(const struct login_found *who, const struct login_found *whom)
{
	const struct record *master = who->record, *user = whom->record;
	if (master == user && slice_eq(who->user, whom->user))
		return true; /* another name of oneself; a host's maildrop is not its user's */
	return master->master == MASTER_SERVER || (master->master == MASTER_TENANT && master->subject.tenant_id == user->subject.tenant_id);
}

/* Everybody is looked up before anything is proved, and the proof costs what any other does. */
static enum err by_master(const struct auth_request *request, struct slice user, struct slice master, struct slice password,
			  struct subject **subject_out)
{
	struct login_found who, whom;
	enum err e = auth_find(request, master, &who), e_user = auth_find(request, user, &whom);
	if (e_user && e_user != ERR_NOT_FOUND)
		e = e_user;
	if (e == OK || e == ERR_NOT_FOUND)
		e = prove_password(request, master, &who, password, true);
	/* a master that may not come in itself is none */
	bool right = e == OK && whom.record && !who.record->subject.suspended && protocol_allowed(&who.record->subject, request->protocol) &&
		     may_act(&who, &whom);
	struct auth_request itself = { .protocol = request->protocol, .login = user, .peer = request->peer };
	if (right)
		e = auth_admit(&itself, &whom, subject_out);
	else if (e == OK || e == ERR_AUTH)
		e = auth_refuse(&whom);
	if (e == OK)
		log_event(LOG_INFO, "auth.master", LOG_STR("peer", request->peer), LOG_STR("user", user), LOG_STR("master", master));
	else
		log_event(LOG_INFO, "auth.master_refused", LOG_STR("peer", request->peer), LOG_STR("user", user), LOG_STR("master", master), LOG_ERR(e));
	login_found_release(&who);
	login_found_release(&whom);
	return e;
}

/* "user*master", unless it is somebody's own name. */
static bool names_master(struct slice login, const struct login_found *found, struct slice *user_out, struct slice *master_out)
{
	size_t at = auth.config.master_separator ? slice_rfind(login, auth.config.master_separator) : SIZE_MAX;
	if (at == SIZE_MAX || at == 0 || at + 1 == login.len || (found->record && found->reading == LOGIN_EXACT))
		return false;
	*user_out = slice_upto(login, at);
	*master_out = slice_from(login, at + 1);
	return true;
}

enum err auth_password(const struct auth_request *request, struct slice password, struct subject **subject_out)
{
	struct login_found found;
	struct slice user, master;
	*subject_out = NULL;
	if (request->authzid.len && !slice_eq(request->authzid, request->login))
		return by_master(request, request->authzid, request->login, password, subject_out);
	enum err e = auth_find(request, request->login, &found);
	if ((e == OK || e == ERR_NOT_FOUND) && names_master(request->login, &found, &user, &master)) {
		login_found_release(&found);
		return by_master(request, user, master, password, subject_out);
	}
	if (e == OK || e == ERR_NOT_FOUND)
		e = prove_password(request, request->login, &found, password, false);
	if (e == OK)
		e = auth_admit(request, &found, subject_out);
	else if (e == ERR_AUTH)
		e = auth_refuse(&found);
	login_found_release(&found);
	return e;
}

/* ---- APOP ---- */

/* MD5(timestamp, secret) in hex, against what the client sent. */
static bool apop_right(struct slice timestamp, struct slice secret, struct slice digest)
{
	struct md5_ctx ctx;
	uint8_t sum[MD5_DIGEST_SIZE];
	char hex[BASE16_ENCODE_LENGTH(MD5_DIGEST_SIZE)], given[BASE16_ENCODE_LENGTH(MD5_DIGEST_SIZE)];
	if (digest.len != sizeof(given))
		return false;
	for (size_t i = 0; i < sizeof(given); i++)
		given[i] = digest.ptr[i] >= 'A' && digest.ptr[i] <= 'F' ? (char)(digest.ptr[i] + 32) : digest.ptr[i];
	md5_init(&ctx);
	md5_update(&ctx, timestamp.len, (const uint8_t *)timestamp.ptr);
	md5_update(&ctx, secret.len, (const uint8_t *)secret.ptr);
	md5_digest(&ctx, sizeof(sum), sum);
	base16_encode_update(hex, sizeof(sum), sum);
	explicit_bzero(&ctx, sizeof(ctx));
	return slice_eq_consttime(slice_of(hex, sizeof(hex)), slice_of(given, sizeof(given)));
}

enum err auth_apop(const struct auth_request *request, struct slice timestamp, struct slice digest, struct subject **subject_out)
{
	struct login_found found;
	struct slice secret, none = slice_str(auth.dummy);
	*subject_out = NULL;
	enum err e = auth_find(request, request->login, &found);
	if (e == OK || e == ERR_NOT_FOUND) {
		struct record *r = found.record;
		bool right = false, any = false;
		for (uint32_t i = 0; r && r->subject.apop && i < r->passwords_count; i++)
			if (password_plain(r->passwords[i], &secret)) {
				any = true;
				right = apop_right(timestamp, secret, digest) || right;
			}
		if (!any) /* the same work for nobody */
			(void)apop_right(timestamp, none, digest);
		e = right ? auth_admit(request, &found, subject_out) : auth_refuse(&found);
	}
	login_found_release(&found);
	return e;
}

/* ---- CRAM-MD5 ---- */

static bool cram_right(struct slice challenge, struct slice secret, struct slice digest)
{
	struct hmac_md5_ctx ctx;
	uint8_t sum[MD5_DIGEST_SIZE];
	char hex[BASE16_ENCODE_LENGTH(MD5_DIGEST_SIZE)], given[BASE16_ENCODE_LENGTH(MD5_DIGEST_SIZE)];
	if (digest.len != sizeof(given))
		return false;
	for (size_t i = 0; i < sizeof(given); i++)
		given[i] = digest.ptr[i] >= 'A' && digest.ptr[i] <= 'F' ? (char)(digest.ptr[i] + 32) : digest.ptr[i];
	hmac_md5_set_key(&ctx, secret.len, (const uint8_t *)secret.ptr);
	hmac_md5_update(&ctx, challenge.len, (const uint8_t *)challenge.ptr);
	hmac_md5_digest(&ctx, sizeof(sum), sum);
	base16_encode_update(hex, sizeof(sum), sum);
	explicit_bzero(&ctx, sizeof(ctx));
	return slice_eq_consttime(slice_of(hex, sizeof(hex)), slice_of(given, sizeof(given)));
}

enum err auth_cram_md5(const struct auth_request *request, struct slice challenge, struct slice digest, struct subject **subject_out)
{
	struct login_found found;
	struct slice secret;
	*subject_out = NULL;
	enum err e = auth_find(request, request->login, &found);
	if (e == OK || e == ERR_NOT_FOUND) {
		struct record *r = found.record;
		bool right = false, any = false;
		for (uint32_t i = 0; r && r->subject.apop && i < r->passwords_count; i++)
			if (password_plain(r->passwords[i], &secret)) {
				any = true;
				right = cram_right(challenge, secret, digest) || right;
			}
		if (!any) /* the same work for nobody */
			(void)cram_right(challenge, slice_str(auth.dummy), digest);
		e = right ? auth_admit(request, &found, subject_out) : auth_refuse(&found);
	}
	login_found_release(&found);
	return e;
}

/* ---- SCRAM ---- */

struct scram_found {
	struct scram_keys keys;
	struct slice secret; /* {PLAIN}: the keys are yet to be derived */
	bool stored;         /* the keys are there */
};

static const char *scram_scheme(enum auth_hash hash)
{
	return hash == AUTH_SHA256 ? "SCRAM-SHA-256" : "SCRAM-SHA-1";
}

static bool scram_stored(enum auth_hash hash, struct slice stored, struct scram_keys *keys_out)
{
	struct slice text;
	bool limit;
	return password_keys(stored, scram_scheme(hash), &text) && scram_read(hash, text, keys_out, &limit);
}

/* All spellings of one name have one salt, as they have where there are keys: else asking for two of them would tell (invariant 11). */
static void made_up_salt(struct slice login, const struct login_found *found, uint8_t *salt, size_t salt_len)
{
	char name[2 * LOGIN_BYTES_MAX + 1];
	uint8_t sum[SCRAM_KEY_BYTES_MAX];
	struct saslprep room;
	login = saslprep(login, &room);
	size_t at = slice_rfind(login, '@');
	if (at == SIZE_MAX)
		at = slice_rfind(login, '%');
	struct slice domain = slice_from(login, at), local = slice_upto(login, at);
	if (found->domain) {
		domain = found->domain->name;
		if (found->domain->subaddress_separator)
			local = slice_upto(local, slice_find(local, found->domain->subaddress_separator));
	}
	size_t len = 0;
	const struct slice parts[] = { local, domain };
	for (size_t p = 0; p < ARRAY_LEN(parts); p++)
		for (size_t i = 0; i < parts[p].len && len < sizeof(name) - 1; i++) {
			char c = parts[p].ptr[i];
			name[len++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
		}
	for (size_t at_byte = 0; at_byte < salt_len; at_byte += sizeof(sum)) { /* more than one sum: the next of the name and a number */
		if (at_byte)
			name[len] = (char)(at_byte / sizeof(sum));
		scram_hmac(AUTH_SHA256, slice_of(auth.salt_secret, sizeof(auth.salt_secret)), slice_of(name, len + (at_byte > 0)), sum);
		memcpy(salt + at_byte, sum, min_size(sizeof(sum), salt_len - at_byte));
	}
}

/* Stored keys, else a plain secret, else nobody's: all but the first have a salt made of the login, of a length and with rounds as its
 * neighbours have. */
static void scram_find(enum auth_hash hash, struct slice login, const struct login_found *found, struct scram_found *out)
{
	const struct record *r = found->record;
	struct scram_keys neighbour;
	*out = (struct scram_found){ .secret = slice_str(auth.dummy) };
	for (uint32_t i = 0; r && i < r->passwords_count && !out->stored; i++)
		out->stored = scram_stored(hash, r->passwords[i], &out->keys);
	if (out->stored)
		return;
	for (uint32_t i = 0; r && r->subject.apop && i < r->passwords_count; i++)
		if (password_plain(r->passwords[i], &out->secret))
			break;
	bool sample = found->domain && scram_stored(hash, found->domain->sample, &neighbour);
	out->keys = (struct scram_keys){ .rounds = sample ? neighbour.rounds : SCRAM_ROUNDS,
					  .salt_len = sample ? neighbour.salt_len : SCRAM_SALT_BYTES };
	made_up_salt(login, found, out->keys.salt, out->keys.salt_len);
}

enum err auth_scram_salt(const struct auth_request *request, enum auth_hash hash, uint8_t *salt_out, size_t *salt_len_out, uint32_t *rounds_out)
{
	struct login_found found;
	struct scram_found scram;
	enum err e = auth_find(request, request->login, &found);
	if (e == OK || e == ERR_NOT_FOUND) {
		scram_find(hash, request->login, &found, &scram);
		memcpy(salt_out, scram.keys.salt, scram.keys.salt_len);
		*salt_len_out = scram.keys.salt_len;
		*rounds_out = scram.keys.rounds;
		explicit_bzero(&scram, sizeof(scram));
		e = OK;
	}
	login_found_release(&found);
	return e;
}

struct scram_job {
	enum auth_hash hash;
	struct slice secret;
	struct scram_keys keys;
};

static void scram_job(void *arg)
{
	struct scram_job *j = arg;
	struct saslprep room; /* RFC 5802 section 2.2: as clients do it */
	scram_derive(j->hash, saslprep(j->secret, &room), &j->keys);
	explicit_bzero(&room, sizeof(room));
}

static enum err scram_prove(const struct auth_request *request, const struct login_found *found, enum auth_hash hash, struct slice auth_message,
			    struct slice proof, uint8_t *signature_out, struct subject **subject_out)
{
	struct scram_found scram;
	scram_find(hash, request->login, found, &scram);
	struct scram_job j = { hash, scram.stored ? slice_str(auth.dummy) : scram.secret, scram.keys };
	bool right = scram.stored && scram_proof_right(hash, &scram.keys, auth_message, proof);
	if (!right) { /* invariant 11: wrong costs what unknown costs */
		enum err e = in_turn(class_of(found), scram_job, &j);
		if (e)
			return e;
		/* keys that stand for nobody, or for a secret that is not wanted here, prove nothing */
		bool known = !scram.stored && scram.secret.ptr != auth.dummy;
		right = scram_proof_right(hash, &j.keys, auth_message, proof) & known;
	}
	scram_signature(hash, &j.keys, auth_message, signature_out);
	explicit_bzero(&j, sizeof(j));
	explicit_bzero(&scram, sizeof(scram));
	return right ? auth_admit(request, found, subject_out) : auth_refuse(found);
}

enum err auth_scram_proof(const struct auth_request *request, enum auth_hash hash, struct slice auth_message, struct slice proof,
			  uint8_t *signature_out, struct subject **subject_out)
{
	struct login_found found;
	*subject_out = NULL;
	enum err e = auth_find(request, request->login, &found);
	if (e == OK || e == ERR_NOT_FOUND)
		e = scram_prove(request, &found, hash, auth_message, proof, signature_out, subject_out);
	login_found_release(&found);
	return e;
}

bool auth_apop_offered(struct slice host)
{
	return directory_apop_offered(host);
}

/* ---- life ---- */

/* Without the file salts change with the process: who asks before and after can tell names that exist. Reported, not fatal. */
static void take_salt_secret(const char *path)
{
	random_bytes(auth.salt_secret, sizeof(auth.salt_secret));
	if (!path)
		return;
	uint8_t bytes[sizeof(auth.salt_secret)];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool made = fd < 0 && errno == ENOENT;
	if (made)
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t n = -1;
	if (fd >= 0)
		n = made ? write(fd, auth.salt_secret, sizeof(auth.salt_secret)) : read(fd, bytes, sizeof(bytes));
	if (n != (ssize_t)sizeof(bytes))
		log_event(LOG_WARN, "auth.secret", LOG_Z("file", path), LOG_Z("why", "not readable or not of 32 bytes: one for this process is used"));
	else if (!made)
		memcpy(auth.salt_secret, bytes, sizeof(bytes));
	if (fd >= 0)
		close(fd);
	explicit_bzero(bytes, sizeof(bytes));
}

enum err auth_open(const struct auth_config *config)
{
	uint8_t random[32];
	auth.config = *config;
	if (!auth.config.cache_bytes_max)
		auth.config.cache_bytes_max = VERIFIED_CACHE_BYTES;
	if (!auth.config.cache_ttl_s)
		auth.config.cache_ttl_s = VERIFIED_TTL_S;
	if (!auth.config.hash_queue_max)
		auth.config.hash_queue_max = HASH_QUEUE_MAX;
	if (!auth.config.hash_wait_ms_max)
		auth.config.hash_wait_ms_max = HASH_WAIT_MS;
	if (!auth.config.hash_parallel_max) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);
		auth.config.hash_parallel_max = cpus > 1 ? (uint32_t)cpus - 1 : 1;
	}
	if (auth_oauth_open(&auth.config.oauth) != OK)
		return ERR_CONFIG;
	take_salt_secret(auth.config.secret_path);
	random_bytes(random, sizeof(random));
	char phrase[BASE16_ENCODE_LENGTH(sizeof(random))];
	base16_encode_update(phrase, sizeof(random), random);
	enum err e = password_make(NULL, slice_of(phrase, sizeof(phrase)), auth.dummy);
	if (!e)
		e = app_password_store(slice_of(phrase, sizeof(phrase)), auth.fast_dummy);
	if (e) {
		log_event(LOG_ERROR, "auth.open", LOG_Z("why", "no password could be hashed with the default scheme"));
		auth_oauth_close();
		return e;
	}
	pthread_mutex_init(&auth.lock, NULL);
	fair_init(&auth.waiting);
	memset(auth.from, 0, sizeof(auth.from));
	auth.running = 0;
	auth.stats = (struct auth_stats){ 0 };
	auth.verified = verified_open(auth.config.cache_bytes_max, auth.config.cache_ttl_s);
	return OK;
}

void auth_close(void)
{
	if (!auth.verified)
		return;
	ASSERT(fair_empty(&auth.waiting));
	verified_close(auth.verified);
	auth.verified = NULL;
	auth_oauth_close();
	pthread_mutex_destroy(&auth.lock);
}

void auth_stats(struct auth_stats *stats_out)
{
	pthread_mutex_lock(&auth.lock);
	*stats_out = auth.stats;
	stats_out->hashing = auth.running;
	stats_out->waiting = auth.waiting.count;
	pthread_mutex_unlock(&auth.lock);
}
