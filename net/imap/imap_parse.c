/* SPDX-License-Identifier: Apache-2.0 */
/* imap_parse.c - see imap_parse.h. */
#include "net/imap/imap_parse.h"

#include "core/base/limits.h"

void imap_args_init(struct imap_args *a, struct slice text, struct arena *arena, bool utf8)
{
	*a = (struct imap_args){ .at = text.ptr, .end = text.ptr + text.len, .arena = arena, .utf8 = utf8, .why = "syntax error" };
}

static bool no(struct imap_args *a, const char *why)
{
	a->why = why;
	return false;
}

/* ---- bytes ---- */

bool imap_end(struct imap_args *a) { return a->at == a->end || no(a, "too many arguments"); }

bool imap_sp(struct imap_args *a)
{
	if (a->at == a->end)
		return no(a, "an argument is missing");
	return imap_skip(a, ' ') || no(a, "expected a space");
}

bool imap_skip(struct imap_args *a, char c)
{
	if (!imap_peek(a, c))
		return false;
	a->at++;
	return true;
}

bool imap_need(struct imap_args *a, char c) { return imap_skip(a, c) || no(a, c == '(' ? "expected (" : c == ')' ? "expected )" : "syntax error"); }

/* RFC 9051: atom-specials, and what else ends a token. */
static bool atom_char(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '(' && c != ')' && c != '{' && c != '%' && c != '*' && c != '"' && c != '\\' && c != ']';
}

static bool astring_char(unsigned char c) { return atom_char(c) || c == ']'; }

static bool run_of(struct imap_args *a, bool (*is)(unsigned char c), struct slice *out)
{
	const char *begin = a->at;
	while (a->at < a->end && is((unsigned char)*a->at))
		a->at++;
	*out = slice_of(begin, (size_t)(a->at - begin));
	return out->len > 0;
}

bool imap_word(struct imap_args *a, const char *word)
{
	size_t len = strlen(word);
	if ((size_t)(a->end - a->at) < len || !slice_eq_nocase(slice_of(a->at, len), slice_of(word, len)))
		return false;
	if (a->at + len < a->end && atom_char((unsigned char)a->at[len]) && a->at[len] != '[' && a->at[len] != '<' && a->at[len] != '.')
		return false;
	a->at += len;
	return true;
}

static bool tag_char(unsigned char c) { return astring_char(c) && c != '+'; }

bool imap_tag(struct imap_args *a, struct slice *out)
{
	return (run_of(a, tag_char, out) && out->len <= IMAP_TAG_BYTES_MAX) || no(a, "expected a tag");
}

bool imap_atom(struct imap_args *a, struct slice *out) { return run_of(a, atom_char, out) || no(a, "expected an atom"); }

/* ---- strings ---- */

/* Between quotes: TEXT-CHAR but '"' and '\', which come behind a '\'; 8-bit only as UTF-8 where that was enabled. */
static bool quoted(struct imap_args *a, struct slice *out)
{
	const char *begin = ++a->at;
	size_t escapes = 0;
	bool eight = false;
	for (; a->at < a->end && *a->at != '"'; a->at++) {
		unsigned char c = (unsigned char)*a->at;
		eight |= c > 127;
		if (c == 0 || c == '\r' || c == '\n')
			return no(a, "a byte that no quoted string may hold");
		if (c != '\\')
			continue;
		if (++a->at == a->end || (*a->at != '"' && *a->at != '\\'))
			return no(a, "a \\ in a quoted string without \" or \\ behind it");
		escapes++;
	}
	if (a->at == a->end)
		return no(a, "a quoted string without its end");
	*out = slice_of(begin, (size_t)(a->at++ - begin));
	if (eight && !imap_utf8_good(*out))
		return no(a, "8-bit bytes that are not UTF-8");
	if (!escapes)
		return true;
	char *copy = arena_alloc(a->arena, out->len);
	if (!copy)
		return no(a, "too long");
	size_t len = 0;
	for (size_t i = 0; i < out->len; i++) {
		if (out->ptr[i] == '\\')
			i++;
		copy[len++] = out->ptr[i];
	}
	*out = slice_of(copy, len);
	return true;
}

/* {12}, {12+} or ~{12}, CRLF, and so many octets: gathering has seen that they are there. */
static bool literal(struct imap_args *a, struct slice *out)
{
	uint64_t bytes = 0;
	a->at++;
	if (a->at == a->end || *a->at < '0' || *a->at > '9')
		return no(a, "a literal without a size");
	for (; a->at < a->end && *a->at >= '0' && *a->at <= '9' && bytes <= UINT32_MAX; a->at++)
		bytes = 10 * bytes + (uint64_t)(*a->at - '0');
	imap_skip(a, '+');
	if (!imap_skip(a, '}') || !imap_skip(a, '\r') || !imap_skip(a, '\n') || (uint64_t)(a->end - a->at) < bytes)
		return no(a, "a literal out of form");
	*out = slice_of(a->at, (size_t)bytes);
	a->at += bytes;
	if (bytes && memchr(out->ptr, 0, out->len))
		return no(a, "NUL in a literal");
	return true;
}

bool imap_string(struct imap_args *a, struct slice *out)
{
	if (imap_peek(a, '"'))
		return quoted(a, out);
	if (imap_peek(a, '{'))
		return literal(a, out);
	return no(a, "expected a string");
}

bool imap_nstring(struct imap_args *a, struct slice *out)
{
	if (imap_word(a, "NIL")) {
		*out = slice_of(NULL, 0);
		return true;
	}
	return imap_string(a, out);
}

bool imap_astring(struct imap_args *a, struct slice *out)
{
	if (imap_peek(a, '"') || imap_peek(a, '{'))
		return imap_string(a, out);
	return run_of(a, astring_char, out) || no(a, "expected a string");
}

static bool list_char(unsigned char c) { return astring_char(c) || c == '%' || c == '*'; }

bool imap_list_mailbox(struct imap_args *a, struct slice *out)
{
	if (imap_peek(a, '"') || imap_peek(a, '{'))
		return imap_string(a, out);
	return run_of(a, list_char, out) || no(a, "expected a pattern");
}

bool imap_mailbox(struct imap_args *a, struct slice *out)
{
	struct slice raw;
	if (!imap_astring(a, &raw))
		return false;
	const char *why = imap_name_read(a->arena, raw, a->utf8, out);
	a->bad_name = why != NULL;
	return !why || no(a, why);
}

/* ---- numbers, sets ---- */

bool imap_number(struct imap_args *a, uint64_t max, uint64_t *out)
{
	const char *begin = a->at;
	while (a->at < a->end && *a->at >= '0' && *a->at <= '9')
		a->at++;
	return slice_u64(slice_of(begin, (size_t)(a->at - begin)), max, out) || no(a, "expected a number");
}

static bool set_char(unsigned char c) { return (c >= '0' && c <= '9') || c == ':' || c == ',' || c == '*'; }

bool imap_set_text(struct imap_args *a, struct slice *out)
{
	if (imap_peek(a, '$')) {
		*out = slice_of(a->at++, 1);
		return true;
	}
	return run_of(a, set_char, out) || no(a, "expected a set of messages");
}

/* ---- lists ---- */

bool imap_open(struct imap_args *a) { return imap_need(a, '('); }

bool imap_more(struct imap_args *a, bool *first_io)
{
	if (imap_skip(a, ')'))
		return false;
	if (!*first_io && !imap_skip(a, ' ')) {
		a->why = "expected ) or a space";
		a->at = a->end; /* what reads the next member fails */
	}
	*first_io = false;
	return true;
}

/* ---- dates ---- */

/* Days since 1970-01-01 of a day of the Gregorian calendar. */
static int64_t days_of(int64_t y, int m, int d)
{
	y -= m <= 2;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool digits(const char *p, int n, int *out)
{
	*out = 0;
	for (int i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		*out = 10 * *out + (p[i] - '0');
	}
	return true;
}

static int month_of(const char *p)
{
	static const char months[] = "janfebmaraprmayjunjulaugsepoctnovdec";
	int month = 0;
	while (month < 12 && !slice_eq_nocase(slice_of(p, 3), slice_of(months + 3 * month, 3)))
		month++;
	return month;
}

static bool day_good(int day, int month)
{
	static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	return month < 12 && day >= 1 && day <= days[month];
}

static bool date_char(unsigned char c) { return c == '-' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

bool imap_date(struct imap_args *a, int64_t *day_out)
{
	struct slice s;
	int day, year;
	if (imap_peek(a, '"') ? !quoted(a, &s) : !run_of(a, date_char, &s))
		return no(a, "expected a date");
	int width = s.len == 10 ? 1 : 2; /* digits of the day */
	if (s.len < 10 || s.len > 11 || !digits(s.ptr, width, &day) || s.ptr[width] != '-' || s.ptr[width + 4] != '-' ||
	    !digits(s.ptr + width + 5, 4, &year))
		return no(a, "a date out of form");
	int month = month_of(s.ptr + width + 1);
	if (!day_good(day, month))
		return no(a, "no such date");
	*day_out = days_of(year, month + 1, day);
	return true;
}

/* "14-Jan-2025 09:30:00 +0100", a day of one digit with a space before it (or, as many write it, a zero). */
bool imap_date_time(struct imap_args *a, int64_t *seconds_out, int16_t *zone_min_out)
{
	struct slice s;
	int day, month, year, h, m, sec, zh, zm;
	if (!imap_peek(a, '"') || !quoted(a, &s))
		return no(a, "expected a date and time");
	if (s.len != 26 || s.ptr[2] != '-' || s.ptr[6] != '-' || s.ptr[11] != ' ' || s.ptr[14] != ':' || s.ptr[17] != ':' || s.ptr[20] != ' ' ||
	    (s.ptr[21] != '+' && s.ptr[21] != '-'))
		return no(a, "a date and time out of form");
	month = month_of(s.ptr + 3);
	if (!(s.ptr[0] == ' ' ? digits(s.ptr + 1, 1, &day) : digits(s.ptr, 2, &day)) || month == 12 || !digits(s.ptr + 7, 4, &year) ||
	    !digits(s.ptr + 12, 2, &h) || !digits(s.ptr + 15, 2, &m) || !digits(s.ptr + 18, 2, &sec) || !digits(s.ptr + 22, 2, &zh) ||
	    !digits(s.ptr + 24, 2, &zm))
		return no(a, "a date and time out of form");
	if (!day_good(day, month) || h > 23 || m > 59 || sec > 60 || zh > 23 || zm > 59)
		return no(a, "no such date and time");
	int zone = (s.ptr[21] == '-' ? -1 : 1) * (60 * zh + zm);
	*zone_min_out = (int16_t)zone;
	*seconds_out = 86400 * days_of(year, month + 1, day) + 3600 * h + 60 * m + sec - 60 * zone;
	return true;
}
