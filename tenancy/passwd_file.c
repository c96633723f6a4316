/* SPDX-License-Identifier: Apache-2.0 */
/* passwd_file.c - lines of passwd files. */
#include "tenancy/passwd_file.h"

static bool field(struct slice *rest_io, struct slice *out)
{
	if (!rest_io->ptr)
		return false;
	size_t colon = slice_find(*rest_io, ':');
	*out = slice_upto(*rest_io, colon);
	*rest_io = colon == SIZE_MAX ? slice_of(NULL, 0) : slice_from(*rest_io, colon + 1);
	return true;
}

/* "512M", "1G"; Dovecot's "storage" counts in KiB when there is no unit, "bytes" in bytes. */
static bool amount(struct slice text, unsigned shift, uint64_t *out)
{
	static const char units[] = "BKMGT";
	if (text.len) {
		char last = (char)(text.ptr[text.len - 1] & ~0x20);
		const char *unit = last ? strchr(units, last) : NULL;
		if (unit) {
			shift = 10 * (unsigned)(unit - units);
			text.len--;
		}
	}
	uint64_t n;
	if (!slice_u64(text, (uint64_t)INT64_MAX >> shift, &n))
		return false;
	*out = n << shift;
	return true;
}

/* "*:storage=1G:messages=1000"; rules for single folders are none of an account's. */
static bool quota_rule(struct slice rule, struct passwd_line *out)
{
	struct slice part, rest = rule;
	if (!field(&rest, &part) || !slice_eq(part, SLICE_LIT("*")))
		return true;
	while (field(&rest, &part)) {
		size_t equals = slice_find(part, '=');
		struct slice key = slice_upto(part, equals), value = slice_from(part, equals == SIZE_MAX ? part.len : equals + 1);
		if (slice_eq_nocase(key, SLICE_LIT("storage")) || slice_eq_nocase(key, SLICE_LIT("bytes"))) {
			out->has_quota_bytes = amount(value, slice_eq_nocase(key, SLICE_LIT("storage")) ? 10 : 0, &out->quota_bytes);
			if (!out->has_quota_bytes)
				return false;
		} else if (slice_eq_nocase(key, SLICE_LIT("messages"))) {
			out->has_quota_messages = slice_u64(value, UINT32_MAX, &out->quota_messages);
			if (!out->has_quota_messages)
				return false;
		}
	}
	return true;
}

static bool extras(struct slice rest, struct passwd_line *out)
{
	struct slice word, rule = SLICE_LIT("userdb_quota_rule=");
	while (slice_next(&rest, ' ', &word)) {
		if (slice_starts_nocase(word, rule) && !quota_rule(slice_from(word, rule.len), out))
			return false;
		if (slice_eq_nocase(word, SLICE_LIT("nologin")) || slice_eq_nocase(word, SLICE_LIT("nologin=y")) ||
		    slice_eq_nocase(word, SLICE_LIT("nologin=yes")))
			out->nologin = true;
		if (slice_starts_nocase(word, SLICE_LIT("allow_nets=")))
			out->restricted = true;
	}
	return true;
}

enum err passwd_line_parse(struct slice line, struct passwd_line *out, const char **why_out)
{
	struct slice rest = line, unused;
	*out = (struct passwd_line){ 0 };
	*why_out = NULL;
	if (line.len && line.ptr[line.len - 1] == '\r')
		rest.len = line.len - 1;
	if (slice_trim(rest).len == 0 || rest.ptr[0] == '#')
		return ERR_NOT_FOUND;
	field(&rest, &out->user);
	if (!field(&rest, &out->stored)) {
		*why_out = "no ':' and password behind the name";
		return ERR_SYNTAX;
	}
	if (out->stored.len == 0 || slice_eq(out->stored, SLICE_LIT("*")) || out->stored.ptr[0] == '!') {
		*why_out = "no password, or a locked one";
		out->locked = true;
	}
	for (int i = 0; i < 5; i++) /* uid gid gecos home shell */
		if (!field(&rest, &unused))
			return out->locked ? ERR_SYNTAX : OK;
	if (rest.ptr && !extras(rest, out)) {
		*why_out = "the quota rule is not readable";
		out->locked = false;
		return ERR_SYNTAX;
	}
	return out->locked ? ERR_SYNTAX : OK;
}
