/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_trace.c - header fields; trace lines: reading those that are there (mail loops), and the date of ours.
 */
#include "net/lmtp/lmtp_private.h"

bool lmtp_next_field(struct slice *rest_io, struct slice *field_out)
{
	struct slice rest = *rest_io;
	size_t len = 0;
	while (len < rest.len) {
		const char *lf = memchr(rest.ptr + len, '\n', rest.len - len);
		len = lf ? (size_t)(lf - rest.ptr) + 1 : rest.len;
		if (len >= rest.len || (rest.ptr[len] != ' ' && rest.ptr[len] != '\t'))
			break;
	}
	*field_out = slice_upto(rest, len);
	*rest_io = slice_from(rest, len);
	return len > 2;
}

/* A field's value without blanks, line ends and angle brackets around it. */
static struct slice bare_value(struct slice value)
{
	while (value.len && strchr(" \t\r\n<", value.ptr[0]) && value.ptr[0])
		value = slice_from(value, 1);
	while (value.len && strchr(" \t\r\n>", value.ptr[value.len - 1]) && value.ptr[value.len - 1])
		value.len--;
	return value;
}

struct lmtp_hops lmtp_count_hops(struct slice header, struct slice address)
{
	struct lmtp_hops hops = { 0, 0, 0 };
	struct slice field;
	while (lmtp_next_field(&header, &field)) {
		if (slice_starts_nocase(field, SLICE_LIT("Received:"))) {
			hops.received++;
		} else if (slice_starts_nocase(field, SLICE_LIT("Delivered-To:"))) {
			hops.delivered++;
			hops.delivered_here += slice_eq_nocase(bare_value(slice_from(field, 13)), address);
		}
	}
	return hops;
}

/* Days since 1970 to a civil date, in 400-year eras that begin on 1 March. */
static void civil(int64_t days, int *year_out, unsigned *month_out, unsigned *day_out)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	unsigned in_era = (unsigned)(days - era * 146097);
	unsigned year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	unsigned in_year = in_era - (365 * year + year / 4 - year / 100);
	unsigned shifted = (5 * in_year + 2) / 153; /* months since March */
	*day_out = in_year - (153 * shifted + 2) / 5 + 1;
	*month_out = shifted < 10 ? shifted + 3 : shifted - 9;
	*year_out = (int)(year + (unsigned)(era * 400)) + (*month_out <= 2);
}

static size_t put_2(char *out, unsigned n)
{
	out[0] = (char)('0' + n / 10 % 10);
	out[1] = (char)('0' + n % 10);
	return 2;
}

size_t lmtp_date(int64_t wall_s, char out[LMTP_DATE_BYTES_MAX])
{
	int64_t days = wall_s / 86400, rest = wall_s % 86400;
	if (rest < 0) {
		rest += 86400;
		days--;
	}
	int year;
	unsigned month, day, s = (unsigned)rest;
	civil(days, &year, &month, &day);
	size_t weekday = (size_t)(((days + 4) % 7 + 7) % 7), len = 0;
	memcpy(out, &"Sun, Mon, Tue, Wed, Thu, Fri, Sat, "[5 * weekday], 5);
	len = 5;
	len += put_2(out + len, day);
	memcpy(out + len, &" Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec "[4 * (month - 1)], 5);
	len += 5;
	len += put_u64(out + len, (uint64_t)(year < 0 ? 0 : year));
	out[len++] = ' ';
	len += put_2(out + len, s / 3600);
	out[len++] = ':';
	len += put_2(out + len, s / 60 % 60);
	out[len++] = ':';
	len += put_2(out + len, s % 60);
	memcpy(out + len, " +0000", 6);
	return len + 6;
}
