/* SPDX-License-Identifier: Apache-2.0 */
/*
 * finding.c - findings in words, for an operator who has never read format.h.
 */
#include "storage/fsck.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
	const char *name;
	enum finding_severity severity;
	const char *means;
} words[] = {
	[FINDING_TEAR] = { "tear", FINDING_NOTE,
	                   "the end of a write that a crash or power failure cut off; nobody was told that it was done; nothing needs to be done" },
	[FINDING_DAMAGE] = { "damage", FINDING_ERROR,
	                     "bytes that had been safely written have changed: the disk or the file system has lost data; mail in this range is "
	                     "lost unless a backup has it, the rest is served; check the disk" },
	[FINDING_LOG_MISSING] = { "log_missing", FINDING_ERROR,
	                          "a log file is missing although older ones are there: it was removed or lost; restore it from a backup" },
	[FINDING_LOG_UNREADABLE] = { "log_unreadable", FINDING_NOTE,
	                             "a log file without a whole beginning: left by a process that stopped while it took the account; it holds nothing" },
	[FINDING_LOG_FOREIGN] = { "log_foreign", FINDING_ERROR,
	                          "a log file of another account: was a directory copied or renamed? it is not used" },
	[FINDING_UNKNOWN] = { "unknown_record", FINDING_WARNING,
	                      "written by a newer version of penfold: the account is served read-only by this one; upgrade" },
	[FINDING_BODY_DAMAGED] = { "body_damaged", FINDING_ERROR,
	                           "the bytes of a message are not what was written; restore it from a backup; check the disk" },
	[FINDING_BODY_MISSING] = { "body_missing", FINDING_ERROR,
	                           "the file of a large message is missing or has the wrong size; restore it from a backup" },
	[FINDING_BODY_LOST] = { "body_lost", FINDING_ERROR, "a message whose text no log has; its headers' record is there, the rest is lost" },
	[FINDING_MESSAGE_DAMAGED] = { "message_damaged", FINDING_ERROR, "the record of a message does not read; it is answered with an error" },
	[FINDING_STRUCTURE] = { "structure", FINDING_WARNING,
	                        "what was noted of a message's parts makes no sense; it is made anew whenever it is asked for; report this" },
	[FINDING_ORPHAN] = { "orphan", FINDING_NOTE, "the file of a large message that no message names any more; it goes when the account is used next" },
	[FINDING_UIDL_TWICE] = { "uidl_twice", FINDING_ERROR, "two messages of a folder have the same UIDL: a POP3 client may skip one" },
	[FINDING_COUNTERS] = { "counters", FINDING_WARNING, "number or size of messages is not what was noted when the account was last let go" },
	[FINDING_STATE_WRONG] = { "state_wrong", FINDING_ERROR,
	                          "the state file (a cache) says something else than the logs; run fsck with --rebuild, and report this" },
	[FINDING_STATE_STALE] = { "state_stale", FINDING_NOTE, "the state file (a cache) is old, torn or of another version; it is not used and will be made anew" },
	[FINDING_IO] = { "io", FINDING_ERROR, "the disk did not read; check it" },
	[FINDING_STRAY] = { "stray", FINDING_NOTE, "a name that is not one of ours; it is left alone" },
};
static_assert_c(ARRAY_LEN(words) == FINDING_COUNT, "every finding has words");

const char *finding_name(enum finding_kind kind)
{
	ASSERT(kind < FINDING_COUNT);
	return words[kind].name;
}

enum finding_severity finding_severity(enum finding_kind kind)
{
	ASSERT(kind < FINDING_COUNT);
	return words[kind].severity;
}

const char *finding_severity_name(enum finding_severity severity)
{
	return severity == FINDING_ERROR ? "error" : severity == FINDING_WARNING ? "warning" : "note";
}

/* Names come from a directory: whatever is in them must not reach a terminal or break JSON. */
static int printable(char out[64], struct slice name)
{
	size_t n = 0;
	for (; n < name.len && n < 63; n++) {
		char c = name.ptr[n];
		out[n] = c >= 0x20 && c < 0x7f && c != '"' && c != '\\' ? c : '?';
	}
	out[n] = 0;
	return (int)n;
}

struct text {
	char *out;
	size_t size, len;
};

static void PRINTF_LIKE(2, 3) say(struct text *t, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int n = t->len < t->size ? vsnprintf(t->out + t->len, t->size - t->len, fmt, args) : 0;
	va_end(args);
	if (n > 0)
		t->len = min_size(t->len + (size_t)n, t->size - 1);
}

size_t finding_text(const struct finding *f, char *out, size_t size)
{
	struct text t = { out, size, 0 };
	char name[64];
	ASSERT(size > 0);
	out[0] = 0;
	if (f->log)
		say(&t, "log L.%" PRIu32 ", ", f->log);
	if (f->end)
		say(&t, "bytes %" PRIu64 " to %" PRIu64 ", ", f->start, f->end);
	if (f->uid)
		say(&t, "folder %" PRIu32 ", message UID %" PRIu32 ", ", f->folder, f->uid);
	if (printable(name, f->name))
		say(&t, "file %s, ", name);
	if (t.len >= 2)
		t.len -= 2; /* the last comma */
	say(&t, "%s%s", t.len ? ": " : "", words[f->kind].means);
	return t.len;
}

size_t finding_json(const struct finding *f, char *out, size_t size)
{
	struct text t = { out, size, 0 };
	char name[64];
	ASSERT(size > 0);
	say(&t, "{\"finding\":\"%s\",\"severity\":\"%s\",\"account\":%" PRIu64, finding_name(f->kind),
	    finding_severity_name(finding_severity(f->kind)), f->account_id);
	if (f->log)
		say(&t, ",\"log\":%" PRIu32, f->log);
	if (f->end)
		say(&t, ",\"start\":%" PRIu64 ",\"end\":%" PRIu64, f->start, f->end);
	if (f->uid)
		say(&t, ",\"folder\":%" PRIu32 ",\"uid\":%" PRIu32, f->folder, f->uid);
	if (printable(name, f->name))
		say(&t, ",\"file\":\"%s\"", name);
	say(&t, ",\"meaning\":\"%s\"}", words[f->kind].means);
	return t.len;
}
