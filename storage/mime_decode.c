/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_decode.c - base64 and quoted-printable by streaming (RFC 2045, 6.7 and 6.8).
 *
 * Base64 passes over what is not in its alphabet and ends at '='.  Quoted-printable holds back what may still turn out to be
 * something else: "=" and what follows it up to two bytes, and blanks, which do not count at a line's end.  More blanks than fit
 * are not the end of a line that anybody sends: they are let through.
 */
#include "storage/mime.h"

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static size_t base64_decode(struct mime_decoder *d, struct slice in, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < in.len && !d->done; i++) {
		int v = base64_value(in.ptr[i]);

		if (v < 0) {
			d->done = in.ptr[i] == '=';
			continue;
		}
		d->bits = d->bits << 6 | (unsigned)v;
		d->state = (uint8_t)((d->state + 1) & 3); /* of four characters the 2nd, 3rd and 4th give an octet each */
		if (d->state == 2)
			out[n++] = (char)(d->bits >> 4);
		else if (d->state == 3)
			out[n++] = (char)(d->bits >> 2);
		else if (d->state == 0)
			out[n++] = (char)d->bits;
	}
	return n;
}

static size_t held_put(struct mime_decoder *d, char *out)
{
	size_t n = d->held;

	memcpy(out, d->hold, n);
	d->held = 0;
	return n;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte behind a held '='. True: it belonged to it. False: what was held went out, and the byte is to be looked at anew. */
static bool escape_take(struct mime_decoder *d, char c, char *out, size_t *n)
{
	char second = d->held > 1 ? d->hold[1] : 0;

	if (c == '\n') { /* a soft line break */
		d->held = 0;
		return true;
	}
	if (d->held == 1 && (hex_value(c) >= 0 || c == '\r' || c == ' ' || c == '\t')) {
		d->hold[d->held++] = c;
		return true;
	}
	if (d->held > 1 && hex_value(second) < 0 && (c == '\r' || c == ' ' || c == '\t') && d->held < sizeof(d->hold)) {
		d->hold[d->held++] = c;
		return true;
	}
	if (d->held == 2 && hex_value(second) >= 0 && hex_value(c) >= 0) {
		out[(*n)++] = (char)(hex_value(second) << 4 | hex_value(c));
		d->held = 0;
		return true;
	}
	*n += held_put(d, out + *n);
	return false;
}

static size_t qp_decode(struct mime_decoder *d, struct slice in, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < in.len; i++) {
		char c = in.ptr[i];

		if (d->held && d->hold[0] == '=' && escape_take(d, c, out, &n))
			continue;
		if (c == '=') {
			n += held_put(d, out + n);
			d->hold[d->held++] = c;
		} else if (c == ' ' || c == '\t') {
			if (d->held == sizeof(d->hold))
				n += held_put(d, out + n);
			d->hold[d->held++] = c;
		} else {
			if (c == '\r' || c == '\n') /* blanks at a line's end were put there on the way */
				d->held = 0;
			n += held_put(d, out + n);
			out[n++] = c;
		}
	}
	return n;
}

void mime_decode_init(struct mime_decoder *d, enum mime_encoding encoding)
{
	memset(d, 0, sizeof(*d));
	d->encoding = (uint8_t)encoding;
}

size_t mime_decode(struct mime_decoder *d, struct slice in, char *out)
{
	if (d->encoding == MIME_BASE64)
		return base64_decode(d, in, out);
	if (d->encoding == MIME_QP)
		return qp_decode(d, in, out);
	if (in.len)
		memcpy(out, in.ptr, in.len);
	return in.len;
}

size_t mime_decode_end(struct mime_decoder *d, char *out)
{
	if (d->held && d->hold[0] == '=' && (d->held == 1 || hex_value(d->hold[1]) < 0))
		d->held = 0; /* a soft line break that the part's end cut off */
	return held_put(d, out);
}
