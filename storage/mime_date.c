/* SPDX-License-Identifier: Apache-2.0 */
/* mime_date.c - dates of RFC 5322 3.3, with the obsolete years and zones of 4.3 and comments anywhere. */
#include "storage/mime_scan.h"

static bool number(struct slice *s, unsigned digits_max, int *out, unsigned *digits_out)
{
	unsigned n = 0;
	int v = 0;

	mime_skip(s);
	while (n < digits_max && s->len && s->ptr[0] >= '0' && s->ptr[0] <= '9') {
		v = v * 10 + (s->ptr[0] - '0');
		*s = slice_from(*s, 1);
		n++;
	}
	*out = v;
	*digits_out = n;
	return n > 0;
}

static struct slice letters(struct slice *s)
{
	size_t i = 0;
	struct slice w;

	mime_skip(s);
	while (i < s->len && (s->ptr[i] | 0x20) >= 'a' && (s->ptr[i] | 0x20) <= 'z')
		i++;
	w = slice_upto(*s, i);
	*s = slice_from(*s, i);
	return w;
}

static bool eat(struct slice *s, char c)
{
	mime_skip(s);
	if (!s->len || s->ptr[0] != c)
		return false;
	*s = slice_from(*s, 1);
	return true;
}

static int month_of(struct slice w)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	for (int i = 0; w.len >= 3 && i < 12; i++) {
		if (slice_eq_nocase(slice_upto(w, 3), slice_of(names + 3 * i, 3)))
			return i + 1;
	}
	return 0;
}

/* Days since 1970-01-01 of the Gregorian calendar; years from 0. */
static int32_t day_number(int y, int month, int d)
{
	int era_year = month > 2 ? y : y - 1;
	int m = month > 2 ? month - 3 : month + 9;
	int32_t days = 365 * era_year + era_year / 4 - era_year / 100 + era_year / 400 + (153 * m + 2) / 5 + d - 1;

	return days - 719468;
}

static int16_t zone_of(struct slice *s)
{
	static const struct {
		char name[4];
		int16_t min;
	} zones[] = { { "EST", -300 }, { "EDT", -240 }, { "CST", -360 }, { "CDT", -300 },
		      { "MST", -420 }, { "MDT", -360 }, { "PST", -480 }, { "PDT", -420 } };
	struct slice w;
	int sign = 1, v;
	unsigned digits;

	mime_skip(s);
	if (s->len && (s->ptr[0] == '+' || s->ptr[0] == '-')) {
		sign = s->ptr[0] == '-' ? -1 : 1;
		*s = slice_from(*s, 1);
		if (!number(s, 4, &v, &digits) || digits != 4 || v % 100 > 59)
			return 0;
		return (int16_t)(sign * (v / 100 * 60 + v % 100));
	}
	w = letters(s);
	for (size_t i = 0; i < sizeof(zones) / sizeof(*zones); i++) {
		if (slice_eq_nocase(w, slice_str(zones[i].name)))
			return zones[i].min;
	}
	return 0;
}

static int year_of(int y, unsigned digits)
{
	if (digits == 2)
		return y < 50 ? 2000 + y : 1900 + y;
	return digits == 3 ? 1900 + y : y;
}

bool mime_date(struct slice s, struct mime_date *out)
{
	static const uint8_t month_days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int day, month, year, hour = 0, minute = 0, second = 0;
	unsigned digits;

	if (letters(&s).len)
		eat(&s, ',');
	if (!number(&s, 2, &day, &digits))
		return false;
	eat(&s, '-');
	month = month_of(letters(&s));
	eat(&s, '-');
	if (!month || day < 1 || day > month_days[month - 1] || !number(&s, 4, &year, &digits) || digits < 2)
		return false;
	year = year_of(year, digits);
	if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
		return false;
	if (number(&s, 2, &hour, &digits)) {
		if (!eat(&s, ':') || !number(&s, 2, &minute, &digits))
			return false;
		if (eat(&s, ':') && !number(&s, 2, &second, &digits))
			return false;
	}
	if (hour > 23 || minute > 59 || second > 60)
		return false;
	out->zone_min = zone_of(&s);
	out->local_day = day_number(year, month, day);
	out->utc_s = (int64_t)out->local_day * 86400 + hour * 3600 + minute * 60 + second - out->zone_min * 60;
	return true;
}
