/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth_proved.c - names that somebody else vouches for: the issuer of a bearer token, a certificate authority, a realm.
 *
 * Whoever vouches names an account by any of its logins; a client that also says whom it wants to be must mean the same account,
 * and the same user of a host's maildrop.  The key file is looked at when a token comes, at most once a second, on the offload
 * thread that checks the token: an unused file costs nothing.
 */
#include "tenancy/auth_private.h"

#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/shard.h"
#include "tenancy/jwt.h"

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

static struct {
	struct auth_oauth config; /* keys_path NULL: there is none */
	pthread_mutex_t lock;     /* of what follows */
	struct jwt_keys *keys;
	struct stat seen;
	int64_t looked_ms;
} oauth;

/* ---- a name that is proved ---- */

static bool same_account(const struct login_found *a, const struct login_found *b)
{
	return a->record && b->record && a->record->subject.account_id == b->record->subject.account_id && slice_eq(a->user, b->user);
}

enum err auth_proved(const struct auth_request *request, struct subject **subject_out)
{
	struct login_found found, wanted = { 0 };
	struct auth_request admitted = *request;
	bool same = true;
	*subject_out = NULL;
	enum err e = auth_find(request, request->login, &found);
	if (e == OK && request->authzid.len) {
		e = auth_find(request, request->authzid, &wanted);
		same = e == OK && same_account(&found, &wanted);
		login_found_release(&wanted);
	}
	admitted.authzid = slice_of(NULL, 0);
	if (e == OK && same && found.record)
		e = auth_admit(&admitted, &found, subject_out);
	else if (e == OK || e == ERR_NOT_FOUND || e == ERR_SYNTAX || e == ERR_LIMIT)
		e = auth_refuse(&found);
	login_found_release(&found);
	return e;
}

/* ---- the key file ---- */

static int64_t fresh_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Under the lock. A file that is bad leaves the old keys and is told once for each of its forms. */
static void look(void)
{
	struct stat now;
	struct jwt_keys *fresh;
	char why[JWT_WHY_BYTES];
	int64_t at_ms = fresh_ms();
	if (at_ms - oauth.looked_ms < JWT_LOOK_MS)
		return;
	oauth.looked_ms = at_ms;
	if (stat(oauth.config.keys_path, &now) != 0 || same_file(&now, &oauth.seen))
		return;
	oauth.seen = now;
	if (jwt_keys_load(oauth.config.keys_path, &fresh, why) != OK) {
		log_event(LOG_WARN, "auth.keys_refused", LOG_Z("why", why));
		return;
	}
	jwt_keys_put(oauth.keys);
	oauth.keys = fresh;
	log_event(LOG_INFO, "auth.keys", LOG_Z("file", oauth.config.keys_path), LOG_U64("keys", jwt_keys_count(fresh)));
}

enum err auth_oauth_open(const struct auth_oauth *config)
{
	char why[JWT_WHY_BYTES];
	oauth.config = *config;
	if (!config->keys_path)
		return OK;
	ASSERT(config->issuer && config->audience && config->username_claim);
	(void)stat(config->keys_path, &oauth.seen); /* before the reading: a change meanwhile is seen */
	oauth.looked_ms = fresh_ms();
	if (jwt_keys_load(config->keys_path, &oauth.keys, why) != OK) {
		log_event(LOG_ERROR, "auth.keys_failed", LOG_Z("where", config->where_keys), LOG_Z("why", why));
		oauth.config.keys_path = NULL;
		return ERR_CONFIG;
	}
	pthread_mutex_init(&oauth.lock, NULL);
	return OK;
}

void auth_oauth_close(void)
{
	if (!oauth.config.keys_path)
		return;
	jwt_keys_put(oauth.keys);
	oauth.keys = NULL;
	oauth.config.keys_path = NULL;
	pthread_mutex_destroy(&oauth.lock);
}

bool auth_bearer_offered(void) { return oauth.config.keys_path != NULL; }

/* ---- a token ---- */

struct bearer_job {
	struct slice token;
	int64_t now_s;
	char name[LOGIN_BYTES_MAX + 1];
	const char *why;
	enum err e;
};

static void bearer_job(void *arg)
{
	struct bearer_job *j = arg;
	const struct jwt_rules rules = { oauth.config.issuer, oauth.config.audience, oauth.config.username_claim, oauth.config.leeway_s };
	pthread_mutex_lock(&oauth.lock);
	look();
	struct jwt_keys *keys = jwt_keys_ref(oauth.keys);
	pthread_mutex_unlock(&oauth.lock);
	j->e = jwt_verify(keys, &rules, j->token, j->now_s, j->name, &j->why);
	jwt_keys_put(keys);
}

enum err auth_bearer(const struct auth_request *request, struct slice token, struct subject **subject_out)
{
	struct bearer_job j = { .token = token, .now_s = clock_wall_s() };
	*subject_out = NULL;
	if (!auth_bearer_offered())
		return auth_refuse(NULL);
	enum err e = auth_in_turn(bearer_job, &j);
	if (e)
		return e;
	if (j.e) {
		log_event(LOG_INFO, "auth.token_refused", LOG_STR("peer", request->peer), LOG_STR("user", request->login), LOG_Z("why", j.why));
		return auth_refuse(NULL);
	}
	struct auth_request proved = *request;
	proved.login = slice_str(j.name);
	proved.authzid = request->login;
	e = auth_proved(&proved, subject_out);
	if (e == ERR_AUTH)
		log_event(LOG_INFO, "auth.token_refused", LOG_STR("peer", request->peer), LOG_STR("user", request->login), LOG_STR("names", proved.login),
			  LOG_Z("why", "it names nobody here, or somebody else"));
	return e;
}
