/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_fuzz.c - any bytes to a POP3 session in the cardboard house.
 *
 * The first byte says how the rest is cut, how much output fits, and which fault is at work.  Checked: nothing crashes,
 * leaks or trips an assertion; what was taken is given back; every line of the answer ends with CRLF; and the same
 * bytes cut otherwise give the same answer.
 */
#include "tests/unit/support/fake_house.h"

#include "core/base/log.h"
#include "net/pop3/pop3_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum err errors[] = { OK, ERR_TEMP, ERR_IO, ERR_CORRUPT, ERR_FENCED, ERR_LIMIT, ERR_READONLY, ERR_BUSY };

static void furnish(uint8_t how)
{
	static uint64_t hours;
	fake_begin();
	fake.xtnd = XTND_XLST | XTND_XMIT;
	fake.now_ms = ++hours * 3600001; /* what was sent in the last run is long ago */
	fake.err_relay = how & 8 ? errors[how >> 3 & 7] : OK;
	(void)addr_parse(SLICE_LIT("127.0.0.1:25"), &pop3_settings.xmit.relay.address);
	pop3_settings.xmit.message_bytes_max = 4096;
	fake.apop = how & 1;
	fake.dots_unknown = how & 2;
	fake.in_memory = how & 1;
	fake.full_bytes = how & 4 ? 50 : 0;
	enum err *const places[] = { &fake.err_message, &fake.err_expunge, &fake.err_lock, &fake.err_view };
	*places[how >> 6] = errors[how >> 3 & 7];
	fake_put(1, "Return-Path: <>\r\nReceived: x with UTF8LMTP id 1\r\n", SLICE_LIT("S: \xc3\xb6\r\n\r\n.a\r\n..\r\n.\r\nb\r\n"));
	fake_put_for(8, "", "fred@vision25.example.net", SLICE_LIT("S: fred\r\n\r\n"));
	fake_put_for(8, ".x@example.org", "jane@vision25.example.net", SLICE_LIT("S: jane\r\n more\r\n\r\n"));
	fake_put(1, "", SLICE_LIT(""));
	fake_put(1, "", SLICE_LIT(".\r\n.\r\n\r\n.\r\n"));
}

static char *run(uint8_t how, struct slice in, size_t piece, size_t *len_out)
{
	struct fake_session f;
	furnish(how);
	fake_open(&f, &pop3_proto);
	fake_feed_cut(&f, in, piece);
	fake_close(&f);
	for (size_t i = 0; i < fake.out.len; i++)
		ASSERT(fake.out.ptr[i] != '\n' || (i && fake.out.ptr[i - 1] == '\r'));
	*len_out = fake.out.len;
	char *out = xmalloc(fake.out.len + 1);
	memcpy(out, fake.out.ptr, fake.out.len);
	fake_end();
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_set_level(LOG_ALARM);
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
