/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory.h - who exists: tenants, domains, accounts, behind one interface.
 *
 * For net/pop3, net/lmtp and the tools.  The embedded SQLite file (DATA/directory.db) is the default; others come behind
 * the same calls.  SQL runs only in offload jobs (invariant 8); answers are cached per process and dropped when SQLite's
 * data_version, polled a few times a second, says that somebody changed something: a change by the command line or by
 * hand is seen within a second.  When the directory cannot be asked, stale entries serve (DESIGN section 7).
 *
 * A `struct subject` is a counted, immutable snapshot of one account with its tenant's settings folded in; holders see
 * the old one until they ask again.  Only this room makes them.  Names are matched after folding: ASCII and Unicode case of domains by IDNA, ASCII
 * case of local parts.
 */
#ifndef PENFOLD_TENANCY_DIRECTORY_H
#define PENFOLD_TENANCY_DIRECTORY_H

#include "core/base/bytes.h"
#include "core/base/err.h"

enum sdps_mode { SDPS_NONE, SDPS_ACCOUNTS, SDPS_MAILDROP };
enum over_quota { OVER_QUOTA_TEMPORARY, OVER_QUOTA_PERMANENT }; /* 452 or 552 */

enum { XTND_XLST = 1, XTND_XMIT = 2 };

struct subject {
	uint64_t account_id; /* never reused */
	uint64_t tenant_id;
	struct slice name;   /* canonical, user@domain; of a host's maildrop @domain, unless one user of it is meant */
	struct slice tenant;
	bool suspended;      /* the account or its tenant */
	bool pop3, imap, lmtp; /* protocols allowed */
	uint64_t quota_bytes, quota_messages; /* 0 = none */
	enum over_quota over_quota;
	uint32_t login_delay_s; /* 0 = none: [LOGIN-DELAY] */
	int32_t expire_days;    /* -1 never; 0 what was downloaded; else what came to INBOX so many days ago is deleted (CAPA EXPIRE) */
	bool junk;              /* mail that the spam filter marked goes to the folder with that use */
	bool apop;              /* the tenant keeps reversible secrets */
	char subaddress_separator; /* '+'; 0 = off */
	uint32_t sessions_max, tenant_sessions_max; /* at a time, of the account and of its tenant; 0 = as the configuration says */
	bool delete_to_trash;      /* what a POP3 session deletes is moved to Trash */
	uint8_t xtnd;              /* XTND_...: which extensions of POP3 the tenant allows */
	uint64_t credential_version; /* changes with every password change */
	/* The domain is an SDPS host's: *ENV is answered. */
	enum sdps_mode sdps;
	bool maildrop;          /* the account is a host's maildrop, which takes mail for every local part of the domain */
	struct slice sdps_user; /* of a login to a maildrop: only mail whose recipient has this local part (folded); empty = all of it */
};

/*
 * Whose passwords count: asked in this order, the first that knows the name decides; one that cannot answer ends the look-up (what it
 * would have said is not known).  The SQLite file is there in any case: it holds tenants, domains, SDPS hosts, settings, application
 * passwords and the never-reused ids; a name that another directory brings gets its row there (accounts.source) when it is first seen, and
 * keeps it, with its mail, until `account remove`.  One name is one account, whoever knows its password.
 */
enum directory_kind { DIRECTORY_SQLITE, DIRECTORY_PASSWD_FILE, DIRECTORY_REDIS };
struct redis_settings;
struct directory_source {
	enum directory_kind kind;
	const char *path, *tenant; /* of a file, tenant of Redis too: whose accounts it brings; domains that nobody has become this tenant's */
	const char *domain;        /* of names without one; NULL = they make the file a broken one */
};

struct directory_config {
	const char *data_path;
	const struct directory_source *sources; /* must outlive the directory */
	unsigned source_count;        /* 0 = SQLite alone */
	const struct redis_settings *redis; /* for a source of that kind, which is there once at most; must outlive the directory */
	const char *default_domain;   /* NULL = none */
	uint64_t cache_bytes_max;     /* of all shards together */
	uint32_t poll_ms;             /* data_version */
	uint32_t ask_ms_max;          /* deadline of a look-up */
};

/* Once per process before the shards start (blocking), and after they ended. */
enum err directory_open(const struct directory_config *config);
void directory_close(void);
/* On each shard, on a fiber: starts and stops the poll on shard 0. */
enum err directory_start(void);
void directory_stop(void);

void subject_unref(struct subject *subject); /* any shard */
struct subject *subject_ref(struct subject *subject);

/* The account that takes mail for an address (RCPT): exact, alias domain, then without subaddress. Never the SDPS form. Later.
 * ERR_NOT_FOUND: nobody of that name; ERR_TEMP: the directory cannot be asked; ERR_SYNTAX: not an address. Suspended accounts are found. */
enum err directory_rcpt(struct slice address, struct subject **subject_out);

/* Tells whether a domain is served at all (for the words of a refusal). Later. */
enum err directory_domain(struct slice domain, bool *served_out);

/* How an account stands now, for whoever must end its sessions when that has changed. */
struct standing {
	uint64_t account_id;         /* in */
	bool found;                  /* else it was removed */
	bool suspended;              /* it or its tenant */
	bool pop3, imap;             /* protocols allowed */
	bool end_on_password_change; /* the tenant wants sessions of an older credential_version ended */
	uint64_t credential_version;
};
/* Asks the directory itself, not the cache, for `count` accounts in one job: at most DIRECTORY_STANDINGS_MAX. Later. ERR_NOT_FOUND: this kind
 * of directory cannot be asked by id; ERR_TEMP, ERR_BUSY, ERR_TIMEOUT: not now. Nothing is decided then. */
enum err directory_standings(struct standing *standings, size_t count);

/* The largest and smallest of all tenants' policies, for those who must announce them before they know whose client it is
 * (RFC 2449 sections 6.5 and 6.7). Now. */
struct directory_extremes {
	uint32_t login_delay_max_s;
	int32_t expire_days_min; /* -1 = NEVER for all */
};
struct directory_extremes directory_extremes(void);

/* For figures and tests: what the cache did since the start. Now. */
struct directory_stats {
	uint64_t hits, misses, joined, stale_served, failed; /* joined: waited for another's query of the same key */
	uint64_t cache_bytes, cache_entries;
	uint64_t changes; /* seen by the poll */
};
void directory_stats(struct directory_stats *stats_out);

/* Accounts and how long they keep mail, by id, from `after` on, at most EXPIRE_LOOK_MAX a call (so much room must be there),
 * those that keep it for ever among them; ERR_NOT_FOUND at the end. Later. */
struct directory_expiry {
	uint64_t account_id;
	int32_t days; /* -1 never */
};
enum err directory_expire_next(uint64_t after, struct directory_expiry *out, size_t *count_out);

/* The removed accounts whose mail is to be deleted (account remove --purge, account purge), lowest id first after `after`: ERR_NOT_FOUND
 * at the end. Whoever runs the store deletes, then says so. Later. */
enum err directory_purge_next(uint64_t after, uint64_t *account_id_out);
enum err directory_purge_done(uint64_t account_id);

#endif
