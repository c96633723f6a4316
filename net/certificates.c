/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificates.c - the pairs that are in memory: the default one, and by name an LRU in front of the folder.
 *
 * One lock for all, held for a look-up or a swap and never while a file is read; a handshake takes it once, for half a
 * microsecond in a hundred.  An entry belongs to one name of the folder, an exact one or a wildcard; an entry without a
 * certificate remembers that there is none.
 */
#include "net/certificate.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/lru.h"
#include "core/base/metrics.h"
#include "core/base/table.h"
#include "net/expiry.h"

#include <errno.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

METRIC_COUNTER(loads_failed, "tls_certificates_refused_total", "Certificate pairs that were bad and not taken");
METRIC_COUNTER(swaps, "tls_certificates_swapped_total", "Certificate pairs replaced by newer files");
METRIC_GAUGE(expires_s, "tls_certificate_expires_seconds", "When the default certificate expires, in seconds since 1970");
METRIC_GAUGE(expiring, "tls_certificates_expiring", "Certificate pairs in memory that expire within tls.expiry_warn_days, or have");
METRIC_GAUGE(in_memory, "tls_certificates_cached", "Certificate pairs found by name, in memory");

/* Which files a pair is from. */
struct origin {
	struct stat chain, key;
};

struct pair {
	char *chain_path, *key_path;
	struct certificate *certificate; /* NULL: none */
	struct origin from;              /* of the certificate */
	struct origin bad;               /* seen and refused */
	bool reported;                   /* ... and told */
	int64_t asked_day;               /* expiry_look's */
};

struct entry {
	struct table_node node;
	struct lru_node lru;
	struct pair pair; /* paths NULL: there is nothing in the folder */
	char name[];
};

static struct {
	pthread_mutex_t lock;
	bool open;
	struct pair fallback;
	int64_t expires_shown_s, expiring_shown; /* what the gauges stand at */
	struct expiry expiry;                    /* the look's alone */
	char *folder;
	struct table table;
	struct lru lru;
} certificates = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void lock(void) { pthread_mutex_lock(&certificates.lock); }
static void unlock(void) { pthread_mutex_unlock(&certificates.lock); }

/* ---- names ---- */

#define NAME_ROOM (DOMAIN_BYTES_MAX + 1)

/* A host name in lower case, without a final dot; false for anything that is none: it becomes part of a path. */
static bool clean(struct slice name, char out[NAME_ROOM])
{
	if (name.len && name.ptr[name.len - 1] == '.')
		name.len--;
	if (!name.len || name.len > DOMAIN_BYTES_MAX || name.ptr[0] == '.')
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c + 32);
		bool dots = c == '.' && out[i ? i - 1 : 0] == '.' && i;
		if (dots || !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || (c == '_' && i)))
			return false;
		out[i] = c;
	}
	out[name.len] = 0;
	return true;
}

/* "*.example.com" of "mail.example.com"; false if it has no parent with a dot in it. */
static bool wildcard_of(const char *name, char out[NAME_ROOM])
{
	const char *dot = strchr(name, '.');
	if (!dot || !strchr(dot + 1, '.'))
		return false;
	snprintf(out, NAME_ROOM, "*%s", dot);
	return true;
}

/* ---- files ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool same_origin(const struct origin *a, const struct origin *b) { return same_file(&a->chain, &b->chain) && same_file(&a->key, &b->key); }

/* Links are followed, so a swapped one shows. All zero for what is not there. */
static struct origin origin_of(const char *chain_path, const char *key_path)
{
	struct origin o;
	memset(&o, 0, sizeof o);
	if (stat(chain_path, &o.chain) != 0)
		memset(&o.chain, 0, sizeof o.chain);
	if (stat(key_path, &o.key) != 0)
		memset(&o.key, 0, sizeof o.key);
	return o;
}

static bool is_nothing(const struct origin *o) { return !o->chain.st_ino && !o->key.st_ino; }

static void report(const struct pair *p, const char *why)
{
	metric_inc(&loads_failed);
	log_event(LOG_ERROR, "tls.certificate_refused", LOG_Z("certificate", p->chain_path), LOG_Z("key", p->key_path), LOG_Z("reason", why),
		  LOG_BOOL("old_kept", p->certificate != NULL));
}

/* What a pair's files hold now. Without the lock: paths do not change. */
struct reading {
	struct origin origin;
	struct certificate *certificate; /* NULL: bad */
	char why[CERTIFICATE_WHY_BYTES];
};

static void read_pair(const char *chain_path, const char *key_path, struct reading *r)
{
	r->certificate = NULL;
	for (unsigned tries = 0; tries < 3; tries++) { /* files that change while they are read */
		certificate_put(r->certificate);
		r->origin = origin_of(chain_path, key_path);
		certificate_load(chain_path, key_path, &r->certificate, r->why);
		struct origin after = origin_of(chain_path, key_path);
		if (same_origin(&r->origin, &after))
			return;
	}
}

/* Takes a reading, under the lock; gives back what is to be put after it. One half of a pair may be changed a moment before the other, so a bad
 * pair is told when it is still the same at the next look. */
static struct certificate *take_reading(struct pair *p, struct reading *r, bool loud)
{
	if (r->certificate) {
		struct certificate *was = p->certificate;
		p->certificate = r->certificate;
		p->from = r->origin;
		memset(&p->bad, 0, sizeof p->bad);
		p->reported = false;
		p->asked_day = 0;
		return was;
	}
	bool again = same_origin(&p->bad, &r->origin);
	if (!again)
		p->reported = false;
	p->bad = r->origin;
	if ((again || loud) && !p->reported) {
		report(p, r->why);
		p->reported = true;
	}
	return NULL;
}

/* ---- the default pair ---- */

static enum err open_fallback(const struct certificates_config *config)
{
	struct reading r;
	struct pair *p = &certificates.fallback;
	p->chain_path = xstrdup(config->chain_path);
	p->key_path = xstrdup(config->key_path);
	read_pair(p->chain_path, p->key_path, &r);
	if (!r.certificate) {
		log_event(LOG_ERROR, "tls.certificate_unusable", LOG_Z("where", config->where_chain), LOG_Z("certificate", p->chain_path),
			  LOG_Z("key", p->key_path), LOG_Z("reason", r.why));
		return ERR_CONFIG;
	}
	take_reading(p, &r, false);
	return OK;
}

/* ---- entries ---- */

static struct slice key_of(const struct table_node *n) { return slice_str(CONTAINER_OF(n, struct entry, node)->name); }

static struct entry *entry_find(const char *name)
{
	struct table_node *n = table_find(&certificates.table, slice_str(name));
	return n ? CONTAINER_OF(n, struct entry, node) : NULL;
}

static void entry_free(struct entry *e)
{
	table_remove(&certificates.table, &e->node);
	if (e->pair.certificate)
		metric_dec(&in_memory);
	certificate_put(e->pair.certificate);
	free(e->pair.chain_path);
	free(e->pair.key_path);
	free(e);
}

static void evict(struct lru_node *n) { entry_free(CONTAINER_OF(n, struct entry, lru)); }

static void entry_drop(struct entry *e)
{
	lru_remove(&certificates.lru, &e->lru);
	entry_free(e);
}

static size_t entry_bytes(const struct entry *e)
{
	return sizeof *e + strlen(e->name) + 96 + (e->pair.certificate ? e->pair.certificate->bytes + 512 : 0);
}

/* Under the lock. Takes the certificate. */
static void entry_add(const char *name, struct pair *pair)
{
	struct entry *e = entry_find(name);
	if (e) /* another shard was quicker */
		entry_drop(e);
	size_t bytes = strlen(name) + 1;
	e = xcalloc(1, sizeof *e + bytes);
	memcpy(e->name, name, bytes);
	e->pair = *pair;
	if (pair->certificate)
		metric_inc(&in_memory);
	if (table_add(&certificates.table, &e->node) != OK)
		UNREACHABLE(); /* it is not there, and the LRU bounds the table */
	lru_add(&certificates.lru, &e->lru, 0, entry_bytes(e));
	lru_trim(&certificates.lru);
}

/* ---- finding ---- */

/* OK, ERR_NOT_FOUND: known to be none; ERR_AGAIN: not known. */
static enum err find_entry(const char *name, struct certificate **out)
{
	struct entry *e = entry_find(name);
	if (!e)
		return ERR_AGAIN;
	lru_touch(&certificates.lru, &e->lru);
	if (!e->pair.certificate)
		return ERR_NOT_FOUND;
	rc_get(&e->pair.certificate->rc);
	*out = e->pair.certificate;
	return OK;
}

static enum err find_locked(const char *name, struct certificate **out)
{
	char wildcard[NAME_ROOM];
	enum err e = name ? find_entry(name, out) : ERR_NOT_FOUND;
	if (e == ERR_NOT_FOUND && name && wildcard_of(name, wildcard))
		e = find_entry(wildcard, out);
	if (e == ERR_NOT_FOUND && certificates.fallback.certificate) {
		rc_get(&certificates.fallback.certificate->rc);
		*out = certificates.fallback.certificate;
		e = OK;
	}
	return e;
}

enum err certificates_find(struct slice name, struct certificate **out)
{
	char text[NAME_ROOM];
	bool by_name = certificates.folder && clean(name, text);
	*out = NULL;
	lock();
	enum err e = find_locked(by_name ? text : NULL, out);
	unlock();
	return e;
}

/* ---- loading ---- */

/* The paths of a name's pair, if its folder has one. */
static bool paths_of(const char *name, struct pair *p)
{
	static const char *const layouts[][2] = { { "fullchain.pem", "privkey.pem" }, { "tls.crt", "tls.key" } };
	char folder[NAME_ROOM + 1], chain[4096], key[4096];
	snprintf(folder, sizeof folder, "%s%s", name[0] == '*' ? "_" : "", name[0] == '*' ? name + 1 : name);
	for (unsigned i = 0; i < ARRAY_LEN(layouts); i++) {
		struct stat st;
		int n = snprintf(chain, sizeof chain, "%s/%s/%s", certificates.folder, folder, layouts[i][0]);
		int m = snprintf(key, sizeof key, "%s/%s/%s", certificates.folder, folder, layouts[i][1]);
		if (n > 0 && m > 0 && (size_t)n < sizeof chain && (size_t)m < sizeof key && stat(chain, &st) == 0) {
			p->chain_path = xstrdup(chain);
			p->key_path = xstrdup(key);
			return true;
		}
	}
	return false;
}

static void load_one(const char *name)
{
	struct pair p = { 0 };
	struct reading r;
	if (paths_of(name, &p)) {
		read_pair(p.chain_path, p.key_path, &r);
		take_reading(&p, &r, true);
	}
	if (!p.certificate) { /* bad or none: forgotten at the next look */
		free(p.chain_path);
		free(p.key_path);
		p = (struct pair){ 0 };
	}
	lock();
	entry_add(name, &p);
	unlock();
}

static bool known(const char *name)
{
	lock();
	bool is = entry_find(name) != NULL;
	unlock();
	return is;
}

static bool known_good(const char *name)
{
	lock();
	struct entry *e = entry_find(name);
	bool good = e && e->pair.certificate;
	unlock();
	return good;
}

void certificates_load(struct slice name)
{
	char text[NAME_ROOM], wildcard[NAME_ROOM];
	if (!certificates.folder || !clean(name, text))
		return;
	if (!known(text))
		load_one(text);
	if (!known_good(text) && wildcard_of(text, wildcard) && !known(wildcard))
		load_one(wildcard);
}

/* ---- watching ---- */

/* Without the lock: files are read. */
static void look_at(struct pair *p, bool loud)
{
	struct reading r;
	struct origin now = origin_of(p->chain_path, p->key_path);
	if (same_origin(&now, &p->from) || (same_origin(&now, &p->bad) && p->reported && !loud))
		return;
	read_pair(p->chain_path, p->key_path, &r);
	lock();
	bool good = r.certificate != NULL;
	struct certificate *was = take_reading(p, &r, loud);
	unlock();
	certificate_put(was);
	if (good) {
		metric_inc(&swaps);
		log_event(LOG_INFO, "tls.certificate_swapped", LOG_Z("certificate", p->chain_path), LOG_I64("expires_s", p->certificate->expires_s));
	}
}

/* Copies of what entries are about, so that the lock is not held while files are looked at. */
struct watched {
	char *name;
	struct pair pair;
};

static size_t watch_list(struct watched **out)
{
	size_t count = 0;
	lock();
	*out = xcalloc(certificates.table.count + 1, sizeof **out);
	for (struct table_node *n = table_first(&certificates.table), *next; n; n = next) {
		struct entry *e = CONTAINER_OF(n, struct entry, node);
		next = table_next(&certificates.table, n);
		if (!e->pair.certificate) {
			entry_drop(e); /* what was not there may be by now */
			continue;
		}
		struct watched *w = &(*out)[count++];
		w->name = xstrdup(e->name);
		w->pair = e->pair;
		w->pair.chain_path = xstrdup(e->pair.chain_path);
		w->pair.key_path = xstrdup(e->pair.key_path);
		rc_get(&e->pair.certificate->rc);
	}
	unlock();
	return count;
}

/* The copy has been looked at: what it found goes into its entry, if that is still there. */
static void put_back(struct watched *w, const struct origin *now)
{
	lock();
	struct entry *e = entry_find(w->name);
	if (e && e->pair.certificate && is_nothing(now)) {
		log_event(LOG_INFO, "tls.certificate_removed", LOG_Z("name", w->name));
		entry_drop(e);
	} else if (e && e->pair.certificate) {
		struct certificate *was = e->pair.certificate;
		e->pair.certificate = w->pair.certificate;
		w->pair.certificate = was;
		e->pair.from = w->pair.from;
		e->pair.bad = w->pair.bad;
		e->pair.reported = w->pair.reported;
		e->pair.asked_day = w->pair.asked_day;
		lru_resize(&certificates.lru, &e->lru, entry_bytes(e));
		lru_trim(&certificates.lru);
	}
	unlock();
}

static bool expires_soon(struct pair *p, int64_t now_s)
{
	return p->certificate && expiry_look(&certificates.expiry, &p->asked_day, p->chain_path, p->certificate->expires_s, now_s) != EXPIRY_FAR;
}

/* How many of them expire soon. */
static int64_t look_by_name(bool loud, int64_t now_s)
{
	int64_t soon = 0;
	struct watched *list;
	size_t count = watch_list(&list);
	for (size_t i = 0; i < count; i++) {
		struct watched *w = &list[i];
		struct origin now = origin_of(w->pair.chain_path, w->pair.key_path);
		if (!is_nothing(&now)) {
			look_at(&w->pair, loud);
			soon += expires_soon(&w->pair, now_s);
		}
		put_back(w, &now);
		certificate_put(w->pair.certificate);
		free(w->pair.chain_path);
		free(w->pair.key_path);
		free(w->name);
	}
	free(list);
	return soon;
}

/* Gauges add up over threads, and each look may be on another one: what is added is the change. */
static void show_expiry(int64_t soon)
{
	lock();
	int64_t now_s = certificates.fallback.certificate ? certificates.fallback.certificate->expires_s : 0;
	metric_add(&expires_s, now_s - certificates.expires_shown_s);
	certificates.expires_shown_s = now_s;
	metric_add(&expiring, soon - certificates.expiring_shown);
	certificates.expiring_shown = soon;
	unlock();
}

void certificates_look(bool loud)
{
	if (!certificates.open)
		return;
	int64_t now_s = time(NULL), soon = 0;
	if (certificates.fallback.chain_path) {
		look_at(&certificates.fallback, loud);
		soon += expires_soon(&certificates.fallback, now_s);
	}
	if (certificates.folder)
		soon += look_by_name(loud, now_s);
	show_expiry(soon);
}

/* ---- life ---- */

enum err certificates_open(const struct certificates_config *config)
{
	struct stat st;
	uint64_t seed;
	RAND_bytes((uint8_t *)&seed, sizeof seed);
	table_init(&certificates.table, TABLE_ENTRIES_MAX, seed, key_of);
	lru_init(&certificates.lru, config->cache_bytes_max ? config->cache_bytes_max : TLS_CERTIFICATES_BYTES_MAX, evict);
	expiry_init(&certificates.expiry, config->expiry_warn_days);
	certificates.open = true;
	if (config->folder && (stat(config->folder, &st) != 0 || !S_ISDIR(st.st_mode))) {
		log_event(LOG_ERROR, "tls.folder_unusable", LOG_Z("where", config->where_folder), LOG_Z("folder", config->folder), LOG_ERRNO(errno));
		return ERR_CONFIG;
	}
	certificates.folder = config->folder ? xstrdup(config->folder) : NULL;
	return config->chain_path ? open_fallback(config) : OK;
}

void certificates_close(void)
{
	if (!certificates.open)
		return;
	for (struct table_node *n; (n = table_first(&certificates.table));)
		entry_drop(CONTAINER_OF(n, struct entry, node));
	table_release(&certificates.table);
	certificate_put(certificates.fallback.certificate);
	free(certificates.fallback.chain_path);
	free(certificates.fallback.key_path);
	free(certificates.folder);
	certificates.fallback = (struct pair){ 0 };
	certificates.folder = NULL;
	show_expiry(0);
	certificates.open = false;
}
