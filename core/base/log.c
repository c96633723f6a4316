/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - building a line.
 *
 * The line ends in reserve: LINE_ROOM leaves space for the cut mark and the end, so that whatever is left out, the line (or
 * JSON object) closes properly.  Values are escaped unit by unit into a bounded piece; a unit goes in whole or not at all.
 */
#include "core/base/log.h"
#include "core/base/limits.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define END_BYTES 16 /* ,"cut":1}\n */
#define LINE_ROOM (LOG_LINE_BYTES_MAX - END_BYTES)
#define MORE "..."

static struct {
	enum log_level least;
	enum log_form form;
	int fd;
	int64_t (*wall_ms)(void);
	bool (*sink)(void *arg, enum log_level level, struct slice line);
	void *sink_arg;
	uint64_t dropped;
} set = { .least = LOG_INFO, .form = LOG_FORM_KEYS, .fd = STDERR_FILENO };

struct line {
	size_t len;
	enum log_form form;
	bool cut;
	char *text; /* LOG_LINE_BYTES_MAX of it */
};

/* ---- settings ---- */

static const char *const level_names[] = {
	[LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error", [LOG_ALARM] = "alarm",
};
static_assert_c(ARRAY_LEN(level_names) == LOG_LEVEL_COUNT, "every level has a word");

const char *log_level_name(enum log_level level)
{
	ASSERT((unsigned)level < LOG_LEVEL_COUNT);
	return level_names[level];
}

bool log_level_parse(struct slice name, enum log_level *level_out)
{
	for (size_t i = 0; i < LOG_LEVEL_COUNT; i++)
		if (slice_eq_nocase(name, slice_str(level_names[i]))) {
			*level_out = (enum log_level)i;
			return true;
		}
	return false;
}

bool log_on(enum log_level level) { return level >= __atomic_load_n(&set.least, __ATOMIC_RELAXED); }
void log_set_level(enum log_level least) { __atomic_store_n(&set.least, least, __ATOMIC_RELAXED); }
void log_set_form(enum log_form form) { __atomic_store_n(&set.form, form, __ATOMIC_RELAXED); }
void log_set_clock(int64_t (*wall_ms)(void)) { set.wall_ms = wall_ms; }
void log_set_fd(int fd) { set.fd = fd; }
uint64_t log_dropped(void) { return __atomic_load_n(&set.dropped, __ATOMIC_RELAXED); }

void log_set_sink(bool (*sink)(void *arg, enum log_level level, struct slice line), void *arg)
{
	set.sink = sink;
	set.sink_arg = arg;
}

/* A line is below PIPE_BUF, so a pipe takes it whole or not at all. */
static bool write_to_fd(struct slice line)
{
	ssize_t n;
	do
		n = write(set.fd, line.ptr, line.len);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)line.len;
}

/* ---- pieces of a line: all or nothing ---- */

static bool put(struct line *l, const char *ptr, size_t len)
{
	if (len > LINE_ROOM - l->len)
		return false;
	memcpy(l->text + l->len, ptr, len);
	l->len += len;
	return true;
}

static bool put_z(struct line *l, const char *z) { return put(l, z, strlen(z)); }

/* Puts a unit of at most 12 bytes unless the piece that began at `start` would get too long to be marked with MORE. */
static bool put_unit(struct line *l, size_t start, const char *unit, size_t len)
{
	return l->len - start + len + sizeof(MORE) <= LOG_VALUE_BYTES_MAX && put(l, unit, len);
}

/* What needs no quotes. */
static const bool bare[256] = {
	['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['-'] = true, ['_'] = true,
	['.'] = true,         [':'] = true,         ['/'] = true,         ['@'] = true, ['+'] = true,
	['['] = true,         [']'] = true,         [','] = true,         ['*'] = true, ['%'] = true,
};

/* ASCII, and single bytes of no known meaning: both forms.  Returns the unit's length. */
static size_t escape_byte(unsigned char c, enum log_form form, char out[8])
{
	static const char hex[] = "0123456789abcdef";
	static const char short_from[] = "\"\\\t\r\n", short_to[] = "\"\\trn";
	const char *known = c ? strchr(short_from, c) : NULL;
	if (known) {
		out[0] = '\\';
		out[1] = short_to[known - short_from];
		return 2;
	}
	if (c >= 0x20 && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	const char *prefix = form == LOG_FORM_KEYS ? "\\x" : c < 0x80 ? "\\u00" : "\\\\x";
	size_t len = strlen(prefix);
	memcpy(out, prefix, len);
	out[len++] = hex[c >> 4];
	out[len++] = hex[c & 15];
	return len;
}

/* The length of a well-formed UTF-8 sequence above ASCII (RFC 3629: no surrogates, nothing overlong), or 0. */
static size_t utf8_at(struct slice s, uint32_t *point_out)
{
	unsigned char c = (unsigned char)s.ptr[0];
	size_t len = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
	if (!len || s.len < len)
		return 0;
	uint32_t point = c & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if (((unsigned char)s.ptr[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | ((unsigned char)s.ptr[i] & 0x3f);
	}
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (point < least[len] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
		return 0;
	*point_out = point;
	return len;
}

static size_t escape_point(uint32_t point, char out[13])
{
	if (point < 0x10000)
		return (size_t)snprintf(out, 13, "\\u%04x", (unsigned)point);
	point -= 0x10000;
	return (size_t)snprintf(out, 13, "\\u%04x\\u%04x", 0xd800 + (unsigned)(point >> 10),
				0xdc00 + (unsigned)(point & 0x3ff));
}

static bool put_escaped(struct line *l, struct slice s)
{
	size_t start = l->len;
	while (s.len) {
		char unit[13];
		uint32_t point = 0;
		size_t taken = l->form == LOG_FORM_JSON ? utf8_at(s, &point) : 0;
		size_t len = taken ? escape_point(point, unit) : escape_byte((unsigned char)s.ptr[0], l->form, unit);
		if (!put_unit(l, start, unit, len))
			return put_z(l, MORE);
		s = slice_from(s, taken ? taken : 1);
	}
	return true;
}

static bool put_hex(struct line *l, struct slice s)
{
	size_t start = l->len;
	for (size_t i = 0; i < s.len; i++) {
		static const char hex[] = "0123456789abcdef";
		unsigned char c = (unsigned char)s.ptr[i];
		char unit[2] = { hex[c >> 4], hex[c & 15] };
		if (!put_unit(l, start, unit, 2))
			return put_z(l, MORE);
	}
	return true;
}

/* ---- values ---- */

static bool put_quoted(struct line *l, struct slice s)
{
	return put(l, "\"", 1) && put_escaped(l, s) && put(l, "\"", 1);
}

static bool is_bare(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!bare[(unsigned char)s.ptr[i]])
			return false;
	return s.len > 0 && s.len < LOG_VALUE_BYTES_MAX - sizeof(MORE);
}

static bool put_str(struct line *l, struct slice s)
{
	return l->form == LOG_FORM_KEYS && is_bare(s) ? put(l, s.ptr, s.len) : put_quoted(l, s);
}

static bool put_number(struct line *l, uint64_t value, bool negative)
{
	char digits[24];
	digits[0] = '-';
	size_t len = put_u64(digits + 1, value);
	return negative ? put(l, digits, len + 1) : put(l, digits + 1, len);
}

static bool put_errno(struct line *l, int64_t number)
{
	uint64_t value = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
	const char *name = value <= 4096 ? strerrorname_np((int)value) : NULL;
	return name ? put_str(l, slice_str(name)) : put_number(l, value, false);
}

static bool put_addr(struct line *l, const struct addr *a)
{
	char text[ADDR_TEXT_BYTES];
	return put_str(l, slice_of(text, addr_format(a, text)));
}

static bool put_value(struct line *l, const struct log_field *f)
{
	switch (f->kind) {
	case LOG_KIND_NAME:
	case LOG_KIND_STR:
		return put_str(l, f->v.s);
	case LOG_KIND_HEX:
		return l->form == LOG_FORM_KEYS && f->v.s.len
			       ? put_hex(l, f->v.s)
			       : put(l, "\"", 1) && put_hex(l, f->v.s) && put(l, "\"", 1);
	case LOG_KIND_U64:
		return put_number(l, f->v.u, false);
	case LOG_KIND_I64:
		return put_number(l, f->v.i < 0 ? 0 - (uint64_t)f->v.i : (uint64_t)f->v.i, f->v.i < 0);
	case LOG_KIND_BOOL:
		return put_z(l, f->v.u ? "true" : "false");
	case LOG_KIND_ERRNO:
		return put_errno(l, f->v.i);
	case LOG_KIND_ADDR:
		return put_addr(l, f->v.addr);
	case LOG_KIND_END:
		break;
	}
	UNREACHABLE();
}

/* ---- lines ---- */

static bool put_key(struct line *l, const char *key)
{
	bool first = l->len == 0;
	if (l->form == LOG_FORM_KEYS)
		return (first || put(l, " ", 1)) && put_z(l, key) && put(l, "=", 1);
	return put_z(l, first ? "{\"" : ",\"") && put_z(l, key) && put_z(l, "\":");
}

static void put_field(struct line *l, const struct log_field *f)
{
	size_t was = l->len;
	if (!put_key(l, f->key) || !put_value(l, f)) {
		l->len = was;
		l->cut = true;
	}
}

static void line_begin(struct line *l, enum log_level level)
{
	if (set.wall_ms) {
		char time[LOG_TIME_BYTES];
		log_format_time(set.wall_ms(), time);
		put_field(l, &(struct log_field){ "time", LOG_KIND_NAME, { slice_of(time, sizeof(time)) } });
	}
	put_field(l, &(struct log_field){ "level", LOG_KIND_NAME, { slice_str(log_level_name(level)) } });
}

static struct slice line_end(struct line *l)
{
	const char *end = l->form == LOG_FORM_KEYS ? (l->cut ? " cut=1\n" : "\n") : (l->cut ? ",\"cut\":1}\n" : "}\n");
	static_assert_c(sizeof(",\"cut\":1}\n") <= END_BYTES, "the reserve holds the longest end");
	memcpy(l->text + l->len, end, strlen(end));
	return slice_of(l->text, l->len + strlen(end));
}

struct slice log_build(char out[LOG_LINE_BYTES_MAX], enum log_level level, const struct log_field *fields)
{
	struct line l = { .text = out, .form = __atomic_load_n(&set.form, __ATOMIC_RELAXED) };
	line_begin(&l, level);
	for (const struct log_field *f = fields; f->kind != LOG_KIND_END; f++)
		put_field(&l, f);
	return line_end(&l);
}

void log_write(enum log_level level, const struct log_field *fields)
{
	char text[LOG_LINE_BYTES_MAX];
	struct slice line = log_build(text, level, fields);
	bool taken = set.sink ? set.sink(set.sink_arg, level, line) : write_to_fd(line);
	if (!taken)
		__atomic_fetch_add(&set.dropped, 1, __ATOMIC_RELAXED);
}

/* ---- time; by hand, because gmtime_r takes a process-wide lock ---- */

static void put_digits(char *out, unsigned count, uint64_t value)
{
	for (; count; value /= 10)
		out[--count] = (char)('0' + value % 10);
}

void log_format_time(int64_t wall_ms, char out[LOG_TIME_BYTES])
{
	const int64_t least = -62167219200000, most = 253402300799999; /* 0000-01-01 and 9999-12-31 */
	uint64_t ms = (uint64_t)((wall_ms < least ? least : wall_ms > most ? most : wall_ms) - least);
	uint64_t day = ms / 86400000, in_day = ms % 86400000;
	/* years that begin on 1 March end with their leap day; 400 of them have 146,097 days; 0000-03-01 is day 60 */
	day += 146097 - 60;
	uint64_t era = day / 146097, in_era = day % 146097;
	uint64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	uint64_t in_year = in_era - (365 * year + year / 4 - year / 100);
	uint64_t month = (5 * in_year + 2) / 153; /* 0 = March */
	uint64_t mday = in_year - (153 * month + 2) / 5 + 1;
	year += era * 400 + (month >= 10 ? 1 : 0) - 400;
	memcpy(out, "0000-00-00T00:00:00.000Z", LOG_TIME_BYTES);
	put_digits(out, 4, year);
	put_digits(out + 5, 2, month < 10 ? month + 3 : month - 9);
	put_digits(out + 8, 2, mday);
	put_digits(out + 11, 2, in_day / 3600000);
	put_digits(out + 14, 2, in_day / 60000 % 60);
	put_digits(out + 17, 2, in_day / 1000 % 60);
	put_digits(out + 20, 3, in_day % 1000);
}
