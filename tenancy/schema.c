/* SPDX-License-Identifier: Apache-2.0 */
/* schema.c - the steps that made the directory's tables. A step that has been released is never edited: append another. */
#include "tenancy/schema.h"

#include "core/base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define APPLICATION_ID 0x50464e44 /* "PFND" */

static const char *const steps[] = {
	/* 1: tenants, domains, accounts */
	"CREATE TABLE tenants ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL UNIQUE CHECK (name <> ''),"
	" created_s INTEGER NOT NULL DEFAULT (unixepoch()),"
	/* settings, see setting.c; NULL = the default */
	" suspended INTEGER CHECK (suspended IN (0, 1)),"
	" pop3 INTEGER CHECK (pop3 IN (0, 1)),"
	" imap INTEGER CHECK (imap IN (0, 1)),"
	" lmtp INTEGER CHECK (lmtp IN (0, 1)),"
	" quota_bytes INTEGER CHECK (quota_bytes >= 0),"
	" quota_messages INTEGER CHECK (quota_messages >= 0),"
	" over_quota INTEGER CHECK (over_quota IN (0, 1)),"                 /* 0 temporary, 1 permanent */
	" login_delay_s INTEGER CHECK (login_delay_s BETWEEN 0 AND 604800),"
	" expire_days INTEGER CHECK (expire_days BETWEEN -1 AND 36500),"     /* -1 never */
	" subaddress_separator INTEGER CHECK (subaddress_separator BETWEEN 0 AND 126)," /* its ASCII code, 0 off */
	" plain_passwords INTEGER CHECK (plain_passwords IN (0, 1)),"
	" schemes TEXT,"
	" password_scheme TEXT"
	") STRICT;"

	/* An alias domain has no accounts: its names are those of the domain it stands for. Names are lower-case A-labels. */
	"CREATE TABLE domains ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL UNIQUE CHECK (name <> '' AND name = lower(name)),"
	" tenant_id INTEGER NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,"
	" alias_of INTEGER REFERENCES domains (id) ON DELETE RESTRICT CHECK (alias_of <> id),"
	" created_s INTEGER NOT NULL DEFAULT (unixepoch())"
	") STRICT;"
	"CREATE INDEX domains_tenant ON domains (tenant_id);"
	"CREATE INDEX domains_alias ON domains (alias_of) WHERE alias_of IS NOT NULL;"

	/* local_part is ASCII-folded; '' is the maildrop of an SDPS host. */
	"CREATE TABLE accounts ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" domain_id INTEGER NOT NULL REFERENCES domains (id) ON DELETE RESTRICT,"
	" local_part TEXT NOT NULL,"
	" created_s INTEGER NOT NULL DEFAULT (unixepoch()),"
	" credential_version INTEGER NOT NULL DEFAULT 0," /* kept by triggers */
	/* settings; NULL = as the tenant */
	" suspended INTEGER CHECK (suspended IN (0, 1)),"
	" pop3 INTEGER CHECK (pop3 IN (0, 1)),"
	" imap INTEGER CHECK (imap IN (0, 1)),"
	" lmtp INTEGER CHECK (lmtp IN (0, 1)),"
	" quota_bytes INTEGER CHECK (quota_bytes >= 0),"
	" quota_messages INTEGER CHECK (quota_messages >= 0),"
	" UNIQUE (domain_id, local_part)"
	") STRICT;"

	/* Several to an account: its password, later named application passwords. stored = {SCHEME}hash. */
	"CREATE TABLE credentials ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,"
	" label TEXT NOT NULL DEFAULT '',"
	" stored TEXT NOT NULL CHECK (length(stored) BETWEEN 1 AND 511),"
	" changed_s INTEGER NOT NULL DEFAULT (unixepoch()),"
	" UNIQUE (account_id, label)"
	") STRICT;"
	"CREATE TRIGGER credentials_insert AFTER INSERT ON credentials BEGIN"
	" UPDATE accounts SET credential_version = credential_version + 1 WHERE id = NEW.account_id; END;"
	"CREATE TRIGGER credentials_update AFTER UPDATE OF account_id, label, stored ON credentials BEGIN"
	" UPDATE accounts SET credential_version = credential_version + 1 WHERE id IN (OLD.account_id, NEW.account_id); END;"
	"CREATE TRIGGER credentials_delete AFTER DELETE ON credentials BEGIN"
	" UPDATE accounts SET credential_version = credential_version + 1 WHERE id = OLD.account_id; END;"

	/* The mail of a removed account stays on disk until it is purged: purge = 1 asks for it. */
	"CREATE TABLE removed_accounts ("
	" id INTEGER PRIMARY KEY,"
	" name TEXT NOT NULL,"
	" tenant TEXT NOT NULL,"
	" removed_s INTEGER NOT NULL DEFAULT (unixepoch()),"
	" purge INTEGER NOT NULL DEFAULT 0 CHECK (purge IN (0, 1))"
	") STRICT;"
	"CREATE INDEX removed_purge ON removed_accounts (id) WHERE purge = 1;"
	"CREATE TRIGGER accounts_delete BEFORE DELETE ON accounts BEGIN"
	" INSERT INTO removed_accounts (id, name, tenant)"
	"  SELECT OLD.id, OLD.local_part || '@' || d.name, t.name FROM domains d JOIN tenants t ON t.id = d.tenant_id WHERE d.id = OLD.domain_id;"
	" END;",

	/* 2: SDPS hosts, XTND. A host is a domain with a short name that sessions may use. mode: 1 its users are accounts, 2 it is one maildrop,
	 * the account of that domain with an empty local part. made_domain: the domain came, and goes, with the host. */
	"CREATE TABLE sdps_hosts ("
	" domain_id INTEGER PRIMARY KEY REFERENCES domains (id) ON DELETE RESTRICT,"
	" short_name TEXT UNIQUE CHECK (short_name <> '' AND short_name = lower(short_name) AND instr(short_name, '.') = 0),"
	" mode INTEGER NOT NULL CHECK (mode IN (1, 2)),"
	" made_domain INTEGER NOT NULL DEFAULT 0 CHECK (made_domain IN (0, 1)),"
	" created_s INTEGER NOT NULL DEFAULT (unixepoch())"
	") STRICT;"
	"ALTER TABLE tenants ADD COLUMN xtnd INTEGER CHECK (xtnd BETWEEN 0 AND 3);", /* 1 XLST, 2 XMIT */

	/* 3: application passwords (app = 1; protocols: bits of enum auth_protocol, NULL = all), masters (0 none, 1 of its tenant, 2 of the server), and
	 * accounts whose password another directory has: here is only their id and what is set for them. */
	"ALTER TABLE credentials ADD COLUMN app INTEGER NOT NULL DEFAULT 0 CHECK (app IN (0, 1));"
	"ALTER TABLE credentials ADD COLUMN protocols INTEGER CHECK (protocols BETWEEN 0 AND 7);"
	"ALTER TABLE credentials ADD COLUMN created_s INTEGER;"
	"CREATE TRIGGER credentials_limit AFTER UPDATE OF app, protocols ON credentials BEGIN"
	" UPDATE accounts SET credential_version = credential_version + 1 WHERE id = NEW.account_id; END;"
	"ALTER TABLE accounts ADD COLUMN master INTEGER CHECK (master BETWEEN 0 AND 2);"
	"ALTER TABLE accounts ADD COLUMN source TEXT CHECK (source <> '');",

	/* 4: limits and the defence against guessing. */
	"ALTER TABLE tenants ADD COLUMN sessions_max INTEGER CHECK (sessions_max >= 0);"
	"ALTER TABLE tenants ADD COLUMN account_sessions_max INTEGER CHECK (account_sessions_max >= 0);"
	"ALTER TABLE tenants ADD COLUMN guess_delay_max_s INTEGER CHECK (guess_delay_max_s BETWEEN 0 AND 604800);"
	"ALTER TABLE tenants ADD COLUMN trusted_networks TEXT;",

	/* 5: logins without TLS (0: never), where POP3 puts what it deletes (0 gone, 1 Trash). */
	"ALTER TABLE tenants ADD COLUMN plaintext_login INTEGER CHECK (plaintext_login IN (0, 1));"
	"ALTER TABLE tenants ADD COLUMN deletion INTEGER CHECK (deletion IN (0, 1));",

	/* 6: what a change of password does to open sessions. */
	"ALTER TABLE tenants ADD COLUMN end_on_password_change INTEGER CHECK (end_on_password_change IN (0, 1));",

	/* 7: where marked mail goes. */
	("ALTER TABLE tenants ADD COLUMN junk INTEGER CHECK (junk IN (0, 1));"
	 "ALTER TABLE accounts ADD COLUMN junk INTEGER CHECK (junk IN (0, 1));"),
};

enum err schema_err(int sqlite_result)
{
	switch (sqlite_result & 0xFF) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return OK;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ERR_BUSY;
	case SQLITE_CONSTRAINT:
		return ERR_EXISTS;
	case SQLITE_FULL:
		return ERR_FULL;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return ERR_CORRUPT;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_CANTOPEN:
		return ERR_DENIED;
	default:
		return ERR_IO;
	}
}

sqlite3_stmt *schema_prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st = NULL;
	int r = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
	return r == SQLITE_OK ? st : NULL;
}

static int64_t pragma_number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st = schema_prepare(db, sql);
	int64_t n = st && sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
	sqlite3_finalize(st);
	return n;
}

/* WAL shares memory between processes of one host: not on file systems that several hosts mount. */
static bool disk_is_local(const char *path)
{
	struct statfs fs;
	if (statfs(path, &fs))
		return true;
	switch ((uint64_t)fs.f_type & 0xFFFFFFFFu) {
	case 0x6969:     /* NFS */
	case 0x00C36400: /* Ceph */
	case 0xFE534D42: /* SMB2 */
	case 0xFF534D42: /* CIFS */
	case 0x65735546: /* FUSE */
	case 0x0BD00BD0: /* Lustre */
	case 0x01161970: /* GFS2 */
		return false;
	default:
		return true;
	}
}

static enum err run(sqlite3 *db, const char *sql, char why[SCHEMA_WHY_BYTES])
{
	int r = sqlite3_exec(db, sql, NULL, NULL, NULL);
	if (r != SQLITE_OK)
		snprintf(why, SCHEMA_WHY_BYTES, "directory.db: %s", sqlite3_errmsg(db));
	return schema_err(r);
}

static enum err open_file(const char *data_path, int flags, sqlite3 **db_out, char why[SCHEMA_WHY_BYTES])
{
	char path[4096];
	*db_out = NULL;
	if (snprintf(path, sizeof(path), "%s/directory.db", data_path) >= (int)sizeof(path)) {
		snprintf(why, SCHEMA_WHY_BYTES, "the data folder's path is too long");
		return ERR_CONFIG;
	}
	int r = sqlite3_open_v2(path, db_out, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
	if (r == SQLITE_OK) {
		sqlite3_busy_timeout(*db_out, DIRECTORY_BUSY_MS);
		sqlite3_extended_result_codes(*db_out, 1);
		return run(*db_out, "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;", why);
	}
	snprintf(why, SCHEMA_WHY_BYTES, "%.200s: %s", path, *db_out ? sqlite3_errmsg(*db_out) : "out of memory");
	return schema_err(r);
}

/* The file with nobody's permissions but ours, before SQLite would make it with the umask's. */
static enum err make_file(const char *data_path, char why[SCHEMA_WHY_BYTES])
{
	char path[4096];
	if (mkdir(data_path, 0750) && errno != EEXIST) {
		snprintf(why, SCHEMA_WHY_BYTES, "%.180s: %s", data_path, strerror(errno));
		return err_from_errno(errno);
	}
	snprintf(path, sizeof(path), "%s/directory.db", data_path);
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		snprintf(why, SCHEMA_WHY_BYTES, "%.180s: %s", path, strerror(errno));
		return err_from_errno(errno);
	}
	close(fd);
	return OK;
}

/* Inside a write transaction: nobody else is doing the same. */
static enum err migrate_locked(sqlite3 *db, char why[SCHEMA_WHY_BYTES])
{
	int64_t version = pragma_number(db, "PRAGMA user_version");
	for (int64_t i = version; i < (int64_t)ARRAY_LEN(steps); i++) {
		enum err e = run(db, steps[i], why);
		if (e)
			return e;
	}
	char sql[96];
	snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %zu;", APPLICATION_ID, ARRAY_LEN(steps));
	return run(db, sql, why);
}

static enum err migrate(sqlite3 *db, char why[SCHEMA_WHY_BYTES])
{
	int64_t version = pragma_number(db, "PRAGMA user_version"), id = pragma_number(db, "PRAGMA application_id");
	if (version < 0 || id < 0) {
		snprintf(why, SCHEMA_WHY_BYTES, "directory.db: %s", sqlite3_errmsg(db));
		return schema_err(sqlite3_errcode(db));
	}
	if ((id != APPLICATION_ID && version != 0) || (id != APPLICATION_ID && pragma_number(db, "SELECT count(*) FROM sqlite_schema") != 0)) {
		snprintf(why, SCHEMA_WHY_BYTES, "directory.db is not Penfold's");
		return ERR_CONFIG;
	}
	if (version > (int64_t)ARRAY_LEN(steps)) {
		snprintf(why, SCHEMA_WHY_BYTES, "directory.db was made by a newer Penfold (version %d, this one knows %zu)", (int)version, ARRAY_LEN(steps));
		return ERR_CONFIG;
	}
	if (version == (int64_t)ARRAY_LEN(steps))
		return OK;
	enum err e = run(db, "BEGIN IMMEDIATE", why);
	if (!e)
		e = migrate_locked(db, why);
	if (!e)
		return run(db, "COMMIT", why);
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return e;
}

enum err schema_open(const char *data_path, sqlite3 **db_out, char why_out[SCHEMA_WHY_BYTES])
{
	why_out[0] = 0;
	*db_out = NULL;
	enum err e = make_file(data_path, why_out);
	if (!e)
		e = open_file(data_path, SQLITE_OPEN_READWRITE, db_out, why_out);
	if (!e)
		e = run(*db_out, disk_is_local(data_path) ? "PRAGMA journal_mode = WAL;" : "PRAGMA journal_mode = DELETE;", why_out);
	/* What the command line reported as done survives a power cut; what an import made of the WAL shrinks again. */
	if (!e)
		e = run(*db_out, "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 8388608;", why_out);
	if (!e)
		e = migrate(*db_out, why_out);
	if (e) {
		sqlite3_close(*db_out);
		*db_out = NULL;
	}
	return e;
}

enum err schema_open_reader(const char *data_path, sqlite3 **db_out, char why_out[SCHEMA_WHY_BYTES])
{
	why_out[0] = 0;
	/* Not read-only: a reader of a WAL may have to make its shared memory or recover it. */
	enum err e = open_file(data_path, SQLITE_OPEN_READWRITE, db_out, why_out);
	if (!e)
		e = run(*db_out, "PRAGMA query_only = ON;", why_out);
	if (e) {
		sqlite3_close(*db_out);
		*db_out = NULL;
	}
	return e;
}
