/* SPDX-License-Identifier: Apache-2.0 */
/* store_help.h - for tests of the store: a store in a fresh folder, and one line to deliver, look and delete. */
#ifndef PENFOLD_TESTS_UNIT_STORAGE_STORE_HELP_H
#define PENFOLD_TESTS_UNIT_STORAGE_STORE_HELP_H

#include "core/run/fiber.h"
#include "core/run/file.h"
#include "storage/account_private.h"
#include "storage/store.h"
#include "tests/unit/support/fiber_main.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static struct store_config help_config;

__attribute__((unused)) static void help_begin(const char *folder)
{
	store_config_default(&help_config);
	help_config.data_path = folder;
	help_config.reserve_bytes = 0;
	help_config.scrub_days = 0;
	assert_int_equal(store_lock(&help_config), OK);
	assert_int_equal(store_start(&help_config), OK);
}

__attribute__((unused)) static void help_end(void)
{
	store_stop();
	store_unlock();
}

/* As after kill -9: what is in memory is gone, nothing is sealed or saved. */
__attribute__((unused)) static void help_crash(void)
{
	struct store_shard *s = store_self();

	LIST_FOREACH(&s->accounts.order, it)
	{
		struct account *a = CONTAINER_OF(CONTAINER_OF(it, struct table_node, order), struct account, node);
		a->state = ACCOUNT_LOST;
	}
	help_end();
}

__attribute__((unused)) static struct body *help_body(const char *text)
{
	struct body_writer *w;
	struct body *b = NULL;

	assert_int_equal(body_begin(BODY_MEND, &w), OK);
	assert_int_equal(body_write(w, slice_str(text)), OK);
	assert_int_equal(body_end(w, &b), OK);
	return b;
}

__attribute__((unused)) static uint32_t help_deliver(struct account *a, uint32_t folder, const char *text)
{
	struct body *b = help_body(text);
	struct append item = { .folder = folder, .body = b, .prefix = SLICE_LIT("Return-Path: <a@example.org>\r\n"),
		               .envelope_from = SLICE_LIT("a@example.org"), .envelope_rcpt = SLICE_LIT("bob@example.net") };
	struct appended out = { 0 };

	assert_int_equal(account_append(a, &item, 1, &out), OK);
	body_unref(b);
	return out.uid;
}

__attribute__((unused)) static void help_expunge(struct account *a, uint32_t folder, uint32_t uid)
{
	size_t removed;

	assert_int_equal(account_expunge(a, folder, &uid, 1, &removed), OK);
	assert_int_equal(removed, 1);
}

__attribute__((unused)) static struct account *help_open(uint64_t id)
{
	struct account *a = NULL;

	assert_int_equal(account_open(id, &a), OK);
	return a;
}

/* The wire bytes of a message, NUL-terminated, in static memory. */
__attribute__((unused)) static const char *help_read(struct view *v, uint32_t index)
{
	static char text[1 << 16];
	struct message_source s;

	assert_int_equal(message_open(v, index, &s), OK);
	assert_true(s.prefix.len + s.bytes < sizeof(text));
	memcpy(text, s.prefix.ptr, s.prefix.len);
	assert_int_equal(file_read(s.fd, text + s.prefix.len, s.bytes, s.offset), (int64_t)s.bytes);
	text[s.prefix.len + s.bytes] = 0;
	message_close(&s);
	return text;
}

/* UIDs of a folder as text: "1 2 5". */
__attribute__((unused)) static const char *help_uids(struct account *a, uint32_t folder)
{
	static char text[4096];
	struct view *v;
	size_t at = 0;

	assert_int_equal(view_open(a, folder, &v), OK);
	text[0] = 0;
	for (uint32_t i = 0; i < view_count(v) && at < sizeof(text) - 16; i++) {
		struct message m;
		view_message(v, i, &m);
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%u", i ? " " : "", m.uid);
	}
	view_close(v);
	return text;
}

#endif
