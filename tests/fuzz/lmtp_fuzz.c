/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_fuzz.c - any bytes to an LMTP session in the cardboard house.
 *
 * As pop3_fuzz.c; and whatever was sent, a stored message holds no bare CR, bare LF or NUL, and its trace lines are lines.
 */
#include "tests/unit/support/fake_house.h"
#include "tests/unit/support/fake_workers.h"

#include "core/base/log.h"
#include "net/lmtp/lmtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum err errors[] = { OK, ERR_TEMP, ERR_IO, ERR_FULL, ERR_FENCED, ERR_LIMIT, ERR_QUOTA, ERR_BUSY };

static void check_lines(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		ASSERT(s.ptr[i] != '\0');
		ASSERT(s.ptr[i] != '\n' || (i && s.ptr[i - 1] == '\r'));
		ASSERT(s.ptr[i] != '\r' || (i + 1 < s.len && s.ptr[i + 1] == '\n'));
	}
}

static void check_stored(void)
{
	for (unsigned a = 0; a < FAKE_ACCOUNTS; a++) {
		for (uint32_t i = 0; i < fake.account[a].count; i++) {
			const struct fake_message *m = &fake.account[a].messages[i];
			check_lines(slice_of(m->body->bytes, m->body->len));
			check_lines(slice_of(m->prefix, m->prefix_len));
			unsigned lines = 0;
			for (size_t k = 0; k < m->prefix_len; k++)
				lines += m->prefix[k] == '\n';
			ASSERT(lines == 5);
		}
	}
}

static char *run(uint8_t how, struct slice in, size_t piece, size_t *len_out)
{
	struct fake_session f;
	fake_begin();
	fake.full_bytes = how & 4 ? 50 : 0;
	enum err *const places[] = { &fake.err_append, &fake.err_open, &fake.err_write, &fake.err_rcpt };
	fake.err_create = how & 2 ? ERR_LIMIT : OK;
	*places[how >> 6] = errors[how >> 3 & 7];
	fake_open(&f, &lmtp_proto);
	fake_feed_cut(&f, in, piece);
	fake_close(&f);
	check_lines(buf_slice(&fake.out));
	check_stored();
	*len_out = fake.out.len;
	char *out = xmalloc(fake.out.len + 1);
	memcpy(out, fake.out.ptr, fake.out.len);
	fake_end();
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_set_level(LOG_ALARM);
	lmtp_settings.junk_name = "X";
	lmtp_settings.junk_value = "y";
	if (size < 2)
		return 0;
	struct slice in = slice_of(data + 2, size - 2);
	size_t whole_len, cut_len;
	char *whole = run(data[0], in, size, &whole_len);
	char *cut = run(data[0], in, 1 + data[1] % 61, &cut_len);
	ASSERT(whole_len == cut_len && memcmp(whole, cut, cut_len) == 0);
	free(whole);
	free(cut);
	return 0;
}
