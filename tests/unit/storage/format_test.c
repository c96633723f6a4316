/* SPDX-License-Identifier: Apache-2.0 */
/* The format: what is put is got; no byte of it can change unnoticed; no bytes can hurt a decoder. */
#include "storage/format.h"
#include "storage/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void names(void **state)
{
	char name[LOG_NAME_BYTES], path[ACCOUNT_PATH_BYTES];
	uint32_t n;

	(void)state;
	log_name(4294967295u, name);
	assert_string_equal(name, "L.4294967295");
	assert_true(log_name_number(name, &n));
	assert_int_equal(n, 4294967295u);
	assert_false(log_name_number("L.4294967296", &n));
	assert_false(log_name_number("L.0", &n));
	assert_false(log_name_number("L.01", &n));
	assert_false(log_name_number("L.", &n));
	assert_false(log_name_number("L.1x", &n));
	assert_false(log_name_number("B.1", &n));
	account_path(0x1234, path);
	assert_int_equal(strlen(path), ACCOUNT_PATH_BYTES - 8);
	assert_string_equal(path + 8, "0000000000001234");
	assert_memory_equal(path, "a/", 2);
}

/* One record of each kind, with everything in it. */
static void put_all(struct buf *b)
{
	const struct cut_end ends[2] = { { 9, 4096 }, { 8, 0 } };
	const uint64_t dots[2] = { 17, 99 }, words[2] = { 5, 1ull << 63 }, clear[2] = { 2, 0 };
	const struct part_disk parts[2] = { { .body_bytes = 7, .parent = 0 }, { .body_bytes = 8, .encoding = 3 } };
	const struct uid_range ranges[2] = { { 1, 3 }, { 5, 5 } };
	uint8_t guids[4][GUID_BYTES];

	memset(guids, 0x5a, sizeof(guids));
	assert_true(open_put(b, &(struct open_record){ { .format = 1, .account_id = 77, .log = 3, .salt = 42, .take = 9, .wall_ms = -5 }, SLICE_LIT("node") }));
	assert_true(cut_put(b, &(struct cut_record){ { 2, CUT_UNCLEAN }, ends }));
	assert_true(folder_put(b, 0, &(struct folder_record){ { .op = FOLDER_RENAME, .folder = 4, .uidnext = 8 }, SLICE_LIT("old"), SLICE_LIT("new/er") }));
	assert_true(body_put(b, 0, &(struct body_record){ { .guid = { 1, 2 }, .bytes = 1000, .hash = 6, .header_bytes = 20, .dot_count = 2, .part_count = 2, .structure_version = 7 },
	                                                 dots, parts, SLICE_LIT("env"), SLICE_LIT("struct"), SLICE_LIT("pre"), SLICE_LIT("k") }));
	assert_true(message_put(b, RECORD_RELOCATED, &(struct message_record){ { .guid = { 1, 2 }, .folder = 1, .uid = 12, .bytes = 1500, .modseq = 3, .keyword_words = 2, .internal_date_zone_min = -60 },
	                                                                      words, SLICE_LIT("Prefix: x\r\n"), SLICE_LIT("uidl-1"), SLICE_LIT("a@b"), SLICE_LIT("c@d") }));
	assert_true(flags_put(b, 0, &(struct flags_record){ { .folder = 1, .set = 1, .clear = 2, .keyword_words = 2, .range_count = 2 }, words, clear, ranges }));
	assert_true(expunge_put(b, 0, &(struct expunge_record){ { .folder = 1, .range_count = 2, .guid_count = 4 }, ranges, guids[0] }));
	assert_true(fact_put(b, RECORD_IGNORABLE, &(struct fact_record){ { .kind = FACT_KEYWORD, .value = 3 }, SLICE_LIT("$Junk") }));
	assert_true(seal_put(b, &(struct seal_fixed){ .reason = SEAL_SIZE, .messages = 4 }));
	assert_true(stub_put(b, &(struct stub_fixed){ .log = 2, .relocated_to = 5 }));
}

static struct record next(struct slice heads, size_t *at, enum record_type type)
{
	struct record r;

	assert_int_equal(record_next(heads, at, &r), RECORD_NEXT_OK);
	assert_int_equal(r.type, type);
	assert_true(record_known(&r));
	return r;
}

static void round_trips(void **state)
{
	struct buf b;
	struct record r;
	size_t at = 0;
	struct open_record open;
	struct cut_record cut;
	struct folder_record folder;
	struct body_record body;
	struct message_record message;
	struct flags_record flags;
	struct expunge_record expunge;
	struct fact_record fact;
	struct seal_fixed seal;
	struct stub_fixed stub;

	(void)state;
	buf_init(&b, 1 << 20);
	put_all(&b);
	struct slice heads = buf_slice(&b);
	r = next(heads, &at, RECORD_OPEN);
	assert_true(open_get(&r, &open));
	assert_int_equal(open.fixed.salt, 42);
	assert_true(slice_eq(open.node, SLICE_LIT("node")));
	r = next(heads, &at, RECORD_CUT);
	assert_true(cut_get(&r, &cut));
	assert_int_equal(cut_end_of(&cut, 9), 4096);
	assert_int_equal(cut_end_of(&cut, 8), 0);
	assert_int_equal(cut_end_of(&cut, 7), 0);
	r = next(heads, &at, RECORD_FOLDER);
	assert_true(folder_get(&r, &folder));
	assert_true(slice_eq(folder.name, SLICE_LIT("old")) && slice_eq(folder.name2, SLICE_LIT("new/er")));
	size_t body_at = at;
	r = next(heads, &at, RECORD_BODY);
	assert_true(body_get(&r, &body));
	assert_int_equal(body.dots[1], 99);
	assert_int_equal(body.parts[1].encoding, 3);
	assert_true(slice_eq(body.envelope, SLICE_LIT("env")) && slice_eq(body.structure, SLICE_LIT("struct")));
	assert_true(slice_eq(body.preview, SLICE_LIT("pre")) && slice_eq(body.keys, SLICE_LIT("k")));
	r = next(heads, &at, RECORD_MESSAGE);
	assert_int_equal(r.flags, RECORD_RELOCATED);
	assert_true(message_get(&r, &message));
	assert_int_equal(message.keywords[1], 1ull << 63);
	assert_int_equal(message.fixed.internal_date_zone_min, -60);
	assert_true(slice_eq(message.prefix, SLICE_LIT("Prefix: x\r\n")) && slice_eq(message.uidl, SLICE_LIT("uidl-1")));
	assert_true(slice_eq(message.from, SLICE_LIT("a@b")) && slice_eq(message.rcpt, SLICE_LIT("c@d")));
	r = next(heads, &at, RECORD_FLAGS);
	assert_true(flags_get(&r, &flags));
	assert_int_equal(flags.keywords_clear[0], 2);
	assert_int_equal(flags.ranges[1].first, 5);
	r = next(heads, &at, RECORD_EXPUNGE);
	assert_true(expunge_get(&r, &expunge));
	assert_int_equal(expunge.guids[3 * GUID_BYTES], 0x5a);
	r = next(heads, &at, RECORD_FACT);
	assert_true(fact_get(&r, &fact));
	assert_true(slice_eq(fact.data, SLICE_LIT("$Junk")));
	r = next(heads, &at, RECORD_SEAL);
	assert_true(seal_get(&r, &seal));
	assert_int_equal(seal.messages, 4);
	r = next(heads, &at, RECORD_STUB);
	assert_true(stub_get(&r, &stub));
	assert_int_equal(stub.relocated_to, 5);
	assert_int_equal(record_next(heads, &at, &r), RECORD_NEXT_END);
	body_set_distance(&b, body_at, 12345);
	assert_true(record_get(slice_from(buf_slice(&b), body_at), &r));
	assert_true(body_get(&r, &body));
	assert_int_equal(body.fixed.data_distance, 12345);
	buf_release(&b);
}

/* Heads in a commit, at some place in some log. */
static char *commit_make(size_t *bytes_out, struct commit_header *h, uint64_t offset)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	put_all(&b);
	*h = (struct commit_header){ .sequence = 5, .bytes = COMMIT_HEADER_BYTES + b.len, .records = 10, .previous_end = offset, .synced_end = offset };
	char *all = malloc(COMMIT_HEADER_BYTES + b.len);
	memcpy(all + COMMIT_HEADER_BYTES, b.ptr, b.len);
	commit_header_put(h, buf_slice(&b), 42, 3, offset, all);
	*bytes_out = COMMIT_HEADER_BYTES + b.len;
	buf_release(&b);
	return all;
}

static bool commit_whole(const char *all, size_t bytes, uint64_t salt, uint64_t log, uint64_t offset)
{
	struct commit_header h;

	return commit_header_get(all, salt, log, offset, &h) && h.bytes == bytes &&
	       commit_heads_good(&h, slice_of(all + COMMIT_HEADER_BYTES, bytes - COMMIT_HEADER_BYTES));
}

static void every_byte_counts(void **state)
{
	struct commit_header h;
	size_t bytes;
	char *all = commit_make(&bytes, &h, 4096);

	(void)state;
	assert_true(commit_whole(all, bytes, 42, 3, 4096));
	for (size_t i = 0; i < bytes; i++)
		for (int bit = 0; bit < 8; bit++) {
			all[i] = (char)(all[i] ^ (1 << bit));
			assert_false(commit_whole(all, bytes, 42, 3, 4096));
			all[i] = (char)(all[i] ^ (1 << bit));
		}
	/* a commit in the wrong place, log or account is none */
	assert_false(commit_whole(all, bytes, 42, 3, 4104));
	assert_false(commit_whole(all, bytes, 42, 4, 4096));
	assert_false(commit_whole(all, bytes, 43, 3, 4096));
	free(all);
}

/* Each record alone: a flipped bit is seen by its own hash. */
static void every_record_counts(void **state)
{
	struct buf b;
	struct record r;

	(void)state;
	buf_init(&b, 1 << 20);
	put_all(&b);
	for (size_t at = 0; at < b.len;) {
		assert_true(record_get(slice_from(buf_slice(&b), at), &r));
		for (size_t i = at; i < at + r.bytes; i++) {
			struct record broken;
			b.ptr[i] ^= 0x10;
			assert_false(record_get(slice_from(buf_slice(&b), at), &broken));
			b.ptr[i] ^= 0x10;
		}
		at += r.bytes;
	}
	buf_release(&b);
}

static void finds_commits_among_other_bytes(void **state)
{
	static _Alignas(8) char bytes[1 << 16];
	struct commit_header h, found;
	size_t len;
	char *all = commit_make(&len, &h, 8192 + 808);

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i += 4)
		memcpy(bytes + i, "PFC1", 4); /* magic everywhere */
	memcpy(bytes + 808, all, len);
	assert_int_equal(commit_header_find(slice_of(bytes, sizeof(bytes)), 42, 3, 8192, &found), 808);
	assert_int_equal(found.sequence, 5);
	assert_int_equal(commit_header_find(slice_of(bytes, sizeof(bytes)), 43, 3, 8192, &found), SIZE_MAX);
	assert_int_equal(commit_header_find(slice_of(bytes, 808 + COMMIT_HEADER_BYTES - 1), 42, 3, 8192, &found), SIZE_MAX);
	free(all);
}

/* Lengths and counts that lie, under right hashes: refused, and never read behind the end (run under ASan). */
static void lengths_may_lie(void **state)
{
	struct buf b;
	uint64_t seed = 88172645463325252ull;
	volatile uint64_t touched = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		buf_init(&b, 1 << 20);
		put_all(&b);
		char *copy = malloc(b.len);
		memcpy(copy, b.ptr, b.len);
		for (size_t at = 0; at < b.len;) {
			struct record_header rh;
			struct record r;
			memcpy(&rh, copy + at, sizeof(rh));
			for (int k = 0; k < 2; k++) {
				seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
				copy[at + RECORD_HEADER_BYTES + seed % (rh.bytes - RECORD_HEADER_BYTES)] = (char)(seed >> 32);
			}
			uint64_t hash = hash64(slice_of(copy + at + RECORD_HEADER_BYTES, rh.bytes - RECORD_HEADER_BYTES), get_le64(copy + at));
			put_le64(copy + at + 8, hash);
			assert_true(record_get(slice_of(copy + at, rh.bytes), &r));
			union {
				struct open_record open;
				struct cut_record cut;
				struct folder_record folder;
				struct body_record body;
				struct message_record message;
				struct flags_record flags;
				struct expunge_record expunge;
				struct fact_record fact;
			} u;
			if (r.type == RECORD_CUT && cut_get(&r, &u.cut))
				(void)cut_end_of(&u.cut, 1);
			if (r.type == RECORD_BODY && body_get(&r, &u.body) && u.body.fixed.dot_count > 0)
				touched += u.body.dots[u.body.fixed.dot_count - 1];
			if (r.type == RECORD_MESSAGE && message_get(&r, &u.message))
				assert_true(u.message.uidl.len <= UIDL_BYTES_MAX && u.message.fixed.uid > 0);
			if (r.type == RECORD_FLAGS && flags_get(&r, &u.flags) && u.flags.fixed.range_count > 0)
				assert_true(u.flags.ranges[u.flags.fixed.range_count - 1].last > 0);
			(void)(r.type == RECORD_EXPUNGE && expunge_get(&r, &u.expunge));
			(void)(r.type == RECORD_FACT && fact_get(&r, &u.fact));
			(void)(r.type == RECORD_FOLDER && folder_get(&r, &u.folder));
			(void)(r.type == RECORD_OPEN && open_get(&r, &u.open));
			at += rh.bytes;
		}
		free(copy);
		buf_release(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(every_byte_counts),
		cmocka_unit_test(every_record_counts),
		cmocka_unit_test(finds_commits_among_other_bytes),
		cmocka_unit_test(lengths_may_lie),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
