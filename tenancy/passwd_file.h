/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passwd_file.h - one line of a Dovecot passwd-file.
 *
 *     user@domain:{SCHEME}hash:uid:gid:gecos:home:shell:extra
 *
 * For imports (and later for a directory that is such a file).  Fields behind the password may be missing and, but for
 * extra, are not used: mail does not live in home directories here.  extra is key=value words between blanks;
 * userdb_quota_rule=*:storage=1G (or :bytes=, :messages=) and nologin are understood, allow_nets is noticed, the others are passed over.
 * A password without braces must be a crypt(3) hash that begins with '$'.
 *
 * Slices of the result point into the line.  Completes now.
 */
#ifndef PENFOLD_TENANCY_PASSWD_FILE_H
#define PENFOLD_TENANCY_PASSWD_FILE_H

#include "core/base/bytes.h"
#include "core/base/err.h"

struct passwd_line {
	struct slice user, stored;
	bool locked; /* with ERR_SYNTAX: the only thing wrong is that there is no password ("*", "!...", nothing) */
	bool has_quota_bytes, has_quota_messages, nologin;
	bool restricted; /* allow_nets: only from some networks, which is not understood here */
	uint64_t quota_bytes, quota_messages;
};

/* The line comes without its end. OK; ERR_NOT_FOUND: nothing on it (blank, comment); ERR_SYNTAX: *why_out says in a phrase. */
enum err passwd_line_parse(struct slice line, struct passwd_line *out, const char **why_out);

#endif
