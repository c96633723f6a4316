/* SPDX-License-Identifier: Apache-2.0 */
/* Folders, keywords, subscriptions and the history of expunged UIDs, in memory. */
#include "storage/account_private.h"
#include "storage/folder.h"
#include "storage/keyword.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void keywords_and_sets(void **state)
{
	struct keywords *k = NULL;
	uint64_t words[KEYWORD_WORDS] = { 0 };

	(void)state;
	assert_int_equal(keywords_find(k, SLICE_LIT("x")), KEYWORD_NONE);
	assert_int_equal(keywords_next(k), 0);
	assert_int_equal(keywords_set(&k, words, KEYWORD_WORDS), 0);
	assert_null(k); /* nothing is used, nothing is kept */
	assert_true(keywords_define(&k, 3, SLICE_LIT("$Junk")));
	assert_true(keywords_define(&k, 3, SLICE_LIT("other"))); /* said twice: the first counts */
	assert_false(keywords_define(&k, KEYWORDS_MAX, SLICE_LIT("far")));
	assert_int_equal(keywords_find(k, SLICE_LIT("$junk")), 3);
	assert_int_equal(keywords_next(k), 4);
	/* equal sets are one set, however many there are */
	uint32_t numbers[3000];
	for (uint32_t i = 0; i < 3000; i++) {
		words[0] = i + 1;
		numbers[i] = keywords_set(&k, words, 1);
		assert_true(numbers[i] > 0);
	}
	for (uint32_t i = 0; i < 3000; i++) {
		words[0] = i + 1;
		assert_int_equal(keywords_set(&k, words, 1), numbers[i]);
		assert_int_equal(keywords_get(k, numbers[i])->words[0], i + 1);
	}
	assert_int_equal(k->set_count, 3001);
	words[0] = 0;
	words[7] = 1;
	assert_int_equal(keyword_set_words(keywords_get(k, keywords_set(&k, words, KEYWORD_WORDS))), 8);
	assert_int_equal(keyword_set_words(keywords_get(k, 0)), 0);
	assert_true(keyword_good(SLICE_LIT("$MDNSent")));
	assert_false(keyword_good(SLICE_LIT("\\Seen")));
	assert_false(keyword_good(SLICE_LIT("a b")));
	assert_false(keyword_good(SLICE_LIT("")));
	keywords_release(&k);
	assert_null(k);
}

static bool vanished_has(const struct vanished *v, uint32_t uid, uint64_t since)
{
	for (uint32_t i = 0; i < v->count; i++)
		if (v->at[i].modseq > since && v->at[i].first <= uid && uid <= v->at[i].last)
			return true;
	return false;
}

static void vanished_is_bounded_and_never_forgets_too_much(void **state)
{
	struct vanished v = { .at = NULL };
	static uint64_t when[70001];

	(void)state;
	/* a maildrop emptied from the front, every day */
	for (uint32_t i = 1; i <= 5000; i++)
		vanished_add(&v, i * 10 - 9, i * 10, i);
	assert_true(v.count <= VANISHED_EXACT + 2);
	for (uint64_t since = 0; since < 5000; since += 97)
		for (uint32_t uid = (uint32_t)since * 10 + 1; uid <= 50000; uid += 331)
			assert_true(vanished_has(&v, uid, since)); /* all that vanished since, maybe more */
	vanished_release(&v);
	/* every second message, in disorder: nothing joins */
	for (uint32_t i = 0; i < 70000; i++) {
		uint32_t uid = (i * 7919u % 70001u) * 2 + 1;
		when[i] = i + 1;
		vanished_add(&v, uid, uid, when[i]);
	}
	assert_int_equal(v.count, VANISHED_RANGES_MAX);
	assert_int_equal(v.floor, 70000 - VANISHED_RANGES_MAX);
	for (uint32_t i = (uint32_t)v.floor; i < 70000; i += 501)
		assert_true(vanished_has(&v, (i * 7919u % 70001u) * 2 + 1, i));
	/* said again (a relocation): counts once */
	uint32_t count = v.count;
	for (uint32_t i = (uint32_t)v.floor; i < 70000; i += 501)
		vanished_add(&v, (i * 7919u % 70001u) * 2 + 1, (i * 7919u % 70001u) * 2 + 1, when[i]);
	assert_int_equal(v.count, count);
	vanished_raise_floor(&v, 69999);
	assert_int_equal(v.count, 1);
	vanished_add(&v, 1, 1, 5); /* below the floor */
	assert_int_equal(v.count, 1);
	vanished_release(&v);
}

static void folders_by_id_and_name(void **state)
{
	struct account a = { .id = 1 };

	(void)state;
	for (uint32_t id = 50; id > 0; id--) {
		char name[16];
		sprintf(name, "f%u", id);
		assert_non_null(folder_add(&a, id, id == 1 ? SLICE_LIT("INBOX") : slice_str(name)));
	}
	for (uint32_t id = 1; id <= 50; id++)
		assert_int_equal(account_folder(&a, id)->id, id);
	assert_null(account_folder(&a, 51));
	assert_int_equal(folder_by_name(&a, SLICE_LIT("inBox"))->id, 1);
	assert_int_equal(folder_by_name(&a, SLICE_LIT("f7"))->id, 7);
	assert_null(folder_by_name(&a, SLICE_LIT("F7")));
	/* in order of name: INBOX, f10, f11, ..., f2, f20 ... */
	const struct folder *f = NULL;
	unsigned count = 0;
	char last[32] = "";
	while ((f = folder_after(&a, f)) != NULL) {
		char name[32];
		sprintf(name, "%.*s", f->name_bytes, f->name);
		assert_true(strcmp(last, name) < 0);
		strcpy(last, name);
		count++;
	}
	assert_int_equal(count, 50);
	folder_drop(&a, account_folder(&a, 7));
	assert_string_equal(last, "f9");
	f = folder_after(&a, account_folder(&a, 6));
	assert_int_equal(f->id, 8);
	assert_null(account_folder(&a, 7));
	assert_int_equal(a.folder_count, 49);
	assert_true(folder_is_below(SLICE_LIT("a/b"), SLICE_LIT("a")));
	assert_true(folder_is_below(SLICE_LIT("a"), SLICE_LIT("a")));
	assert_false(folder_is_below(SLICE_LIT("ab"), SLICE_LIT("a")));
	account_forget(&a);
	assert_int_equal(a.folder_count, 0);
}

static void subscriptions(void **state)
{
	struct account a = { .id = 1 };

	(void)state;
	subscription_set(&a, SLICE_LIT("one"), true);
	subscription_set(&a, SLICE_LIT("two"), true);
	subscription_set(&a, SLICE_LIT("two"), true);
	subscription_set(&a, SLICE_LIT("three"), true);
	assert_int_equal(a.subscriptions_bytes, 4 + 4 + 6);
	subscription_set(&a, SLICE_LIT("two"), false);
	subscription_set(&a, SLICE_LIT("four"), false);
	assert_true(subscription_has(&a, SLICE_LIT("one")));
	assert_false(subscription_has(&a, SLICE_LIT("two")));
	assert_true(subscription_has(&a, SLICE_LIT("three")));
	assert_false(subscription_has(&a, SLICE_LIT("thre")));
	account_forget(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keywords_and_sets),
		cmocka_unit_test(vanished_is_bounded_and_never_forgets_too_much),
		cmocka_unit_test(folders_by_id_and_name),
		cmocka_unit_test(subscriptions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
