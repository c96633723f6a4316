/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as the logs of an account: recovery, fsck's reading, and the records' encoders.
 *
 * Bytes alone would die at the first checksum, so the input is a plan: commits for up to four logs, whose heads are the
 * fuzzer's but whose lengths and hashes are put right (or left wrong, if the plan says so).  What must hold:
 *   - nothing crashes, whatever is read;
 *   - a record that decodes encodes to what decodes to the same;
 *   - what was recovered survives a state file, and a second recovery finds the same.
 *
 *     byte   flags of a log: 1 = raw (the rest of its bytes as they are), 2 = no open and cut
 *     then   commits: length of heads (2 bytes, little-endian), what to break (1 byte), bytes of data (1 byte), the heads
 *            a length of 0xffff ends the log
 */
#include "core/base/log.h"
#include "core/run/shard_private.h"
#include "core/run/file.h"
#include "core/run/sim.h"
#include "storage/fence.h"
#include "storage/folder.h"
#include "storage/recover.h"
#include "storage/state.h"
#include "storage/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define LOGS 4u
#define SALT 0x0123456789abcdefull
#define ACCOUNT 7u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct input {
	const uint8_t *at, *end;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;
	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		v |= (uint32_t)*in->at++ << (8 * i);
	return v;
}

/* ---- records: there and back ---- */

#define ROUND_TRIP(what, get, put, same)                                                                      \
	static void trip_##what(const struct record *r)                                                       \
	{                                                                                                     \
		struct what##_record a, b;                                                                    \
		struct record again;                                                                          \
		struct buf heads;                                                                             \
		if (!get(r, &a))                                                                              \
			return;                                                                               \
		buf_init(&heads, MIB(4));                                                                     \
		ASSERT(put);                                                                                  \
		ASSERT(record_get(buf_slice(&heads), &again) && again.type == r->type && get(&again, &b));    \
		ASSERT(memcmp(&a.fixed, &b.fixed, sizeof(a.fixed)) == 0 && (same));                           \
		buf_release(&heads);                                                                          \
	}

static bool same_bytes(const void *a, const void *b, size_t n) { return n == 0 || memcmp(a, b, n) == 0; }

ROUND_TRIP(open, open_get, open_put(&heads, &a), slice_eq(a.node, b.node))
ROUND_TRIP(cut, cut_get, cut_put(&heads, &a), same_bytes(a.ends, b.ends, a.fixed.count * sizeof(struct cut_end)))
ROUND_TRIP(folder, folder_get, folder_put(&heads, r->flags, &a), slice_eq(a.name, b.name) && slice_eq(a.name2, b.name2))
ROUND_TRIP(body, body_get, body_put(&heads, r->flags, &a),
           same_bytes(a.dots, b.dots, a.fixed.dot_count * 8ull) && same_bytes(a.parts, b.parts, a.fixed.part_count * sizeof(struct part_disk)) &&
                   slice_eq(a.envelope, b.envelope) && slice_eq(a.structure, b.structure) && slice_eq(a.preview, b.preview) &&
                   slice_eq(a.keys, b.keys))
ROUND_TRIP(message, message_get, message_put(&heads, r->flags, &a),
           slice_eq(a.prefix, b.prefix) && slice_eq(a.uidl, b.uidl) && slice_eq(a.from, b.from) && slice_eq(a.rcpt, b.rcpt) &&
                   same_bytes(a.keywords, b.keywords, a.fixed.keyword_words * 8ull))
ROUND_TRIP(flags, flags_get, flags_put(&heads, r->flags, &a),
           same_bytes(a.ranges, b.ranges, a.fixed.range_count * 8ull) && same_bytes(a.keywords_set, b.keywords_set, a.fixed.keyword_words * 8ull) &&
                   same_bytes(a.keywords_clear, b.keywords_clear, a.fixed.keyword_words * 8ull))
ROUND_TRIP(expunge, expunge_get, expunge_put(&heads, r->flags, &a),
           same_bytes(a.ranges, b.ranges, a.fixed.range_count * 8ull) && same_bytes(a.guids, b.guids, (size_t)a.fixed.guid_count * GUID_BYTES))
ROUND_TRIP(fact, fact_get, fact_put(&heads, r->flags, &a), slice_eq(a.data, b.data))

static void trip(const struct record *r)
{
	switch (r->type) {
	case RECORD_OPEN: trip_open(r); break;
	case RECORD_CUT: trip_cut(r); break;
	case RECORD_FOLDER: trip_folder(r); break;
	case RECORD_BODY: trip_body(r); break;
	case RECORD_MESSAGE: trip_message(r); break;
	case RECORD_FLAGS: trip_flags(r); break;
	case RECORD_EXPUNGE: trip_expunge(r); break;
	case RECORD_FACT: trip_fact(r); break;
	default: break;
	}
}

/* ---- logs from the plan ---- */

/* Gives each record a length that fits and its right hash. */
static void mend_heads(char *heads, size_t len)
{
	for (size_t at = 0; at + RECORD_HEADER_BYTES <= len;) {
		struct record_header h;
		struct record r;
		memcpy(&h, heads + at, sizeof(h));
		h.type = (uint16_t)(1 + h.type % 12);
		h.version = h.version & 0x80 ? h.version : 1;
		h.flags &= 3;
		h.bytes = (uint32_t)min_size((h.bytes & 0x3ff) / 8 * 8 + RECORD_HEADER_BYTES, len - at);
		memcpy(heads + at, &h, sizeof(h));
		h.hash = hash64(slice_of(heads + at + RECORD_HEADER_BYTES, h.bytes - RECORD_HEADER_BYTES), get_le64(heads + at));
		put_le64(heads + at + offsetof(struct record_header, hash), h.hash);
		ASSERT(record_get(slice_of(heads + at, len - at), &r));
		trip(&r);
		at += h.bytes;
	}
}

static void begin_log(struct buf *heads, uint32_t number, const uint64_t *ends)
{
	struct open_record open = { .fixed = { .format = FORMAT_VERSION, .account_id = ACCOUNT, .log = number, .salt = SALT } };
	struct cut_end at[LOGS];
	struct cut_record cut = { .fixed = { .count = number - 1 }, .ends = at };
	for (uint32_t i = 0; i + 1 < number; i++)
		at[i] = (struct cut_end){ number - 1 - i, ends[number - 1 - i] };
	ASSERT(open_put(heads, &open) && cut_put(heads, &cut));
}

static void put_commit(struct buf *log, struct buf *heads, uint32_t number, uint64_t sequence, uint64_t *previous_io, unsigned broken, unsigned data)
{
	struct commit_header h = { .sequence = sequence, .bytes = COMMIT_HEADER_BYTES + heads->len + 8ull * data, .previous_end = *previous_io,
		                   .synced_end = broken & 1 ? log->len : *previous_io };
	char bytes[COMMIT_HEADER_BYTES], zeros[8 * 256] = { 0 };
	struct record r;
	size_t at = 0;
	while (record_next(buf_slice(heads), &at, &r) == RECORD_NEXT_OK)
		h.records++;
	commit_header_put(&h, buf_slice(heads), SALT, number, log->len, bytes);
	if (broken & 2)
		bytes[broken % COMMIT_HEADER_BYTES] ^= 1;
	size_t start = log->len;
	if (buf_put(log, bytes, sizeof(bytes)) && buf_put(log, heads->ptr, heads->len) && buf_put(log, zeros, 8ull * data)) {
		if (broken & 4)
			log->ptr[start + COMMIT_HEADER_BYTES] ^= 1;
		if (!(broken & 8))
			*previous_io = log->len;
	}
}

static void make_log(struct input *in, uint32_t number, uint64_t *ends, struct buf *log)
{
	unsigned flags = take(in, 1);
	uint64_t previous = 0, sequence = number * 100ull;
	struct buf heads;
	if (flags & 1) {
		size_t n = min_size((size_t)(in->end - in->at), take(in, 2));
		n = min_size((size_t)(in->end - in->at), n);
		(void)buf_put(log, in->at, n);
		in->at += n;
		ends[number] = log->len / 8 * 8;
		return;
	}
	buf_init(&heads, MIB(1));
	if (!(flags & 2)) {
		begin_log(&heads, number, ends);
		put_commit(log, &heads, number, sequence++, &previous, 0, 0);
	}
	for (uint32_t len; in->at < in->end && (len = take(in, 2)) != 0xffff;) {
		unsigned broken = take(in, 1), data = take(in, 1);
		size_t n = min_size(min_size(len, (size_t)(in->end - in->at)), 8192) / 8 * 8;
		buf_clear(&heads);
		ASSERT(buf_put(&heads, in->at, n));
		in->at += n;
		mend_heads(heads.ptr, heads.len);
		put_commit(log, &heads, number, sequence++, &previous, broken, data);
	}
	buf_release(&heads);
	ends[number] = previous;
}

static int write_logs(struct input *in)
{
	uint64_t ends[LOGS + 1] = { 0 };
	ASSERT(file_mkdir(AT_FDCWD, "/account", 0700) == 0);
	int dir = file_open(AT_FDCWD, "/account", O_RDONLY | O_DIRECTORY, 0);
	ASSERT(dir >= 0);
	for (uint32_t number = 1; number <= LOGS && in->at < in->end; number++) {
		char name[LOG_NAME_BYTES];
		struct buf log;
		buf_init(&log, MIB(4));
		make_log(in, number, ends, &log);
		log_name(number, name);
		int fd = file_create_excl(dir, name, 0600);
		struct iovec iov = { log.ptr, log.len };
		ASSERT(fd >= 0 && (log.len == 0 || file_write(fd, &iov, 1, 0) == 0));
		file_close(fd);
		buf_release(&log);
	}
	return dir;
}

/* ---- what is done with them ---- */

static struct account *recover(int dir, bool *salt_lost_out)
{
	struct account *a = xcalloc(1, sizeof(*a));
	struct fence_names names;
	a->id = ACCOUNT;
	ASSERT(fence_list(dir, &names) == OK);
	enum err e = recover_run(a, dir, &names, UINT32_MAX, false);
	/* a disk that reads has no other answer but that the account's salt is lost */
	ASSERT(e == OK || (e == ERR_CORRUPT && a->salt == 0));
	*salt_lost_out = e != OK;
	fence_names_release(&names);
	a->state = ACCOUNT_SEALED;
	return a;
}

static void release(struct account *a)
{
	account_forget(a);
	free(a->logs);
	free(a->repairs);
	free(a);
}

static void count(void *arg, const struct finding *f)
{
	char text[FINDING_TEXT_BYTES];
	*(size_t *)arg += finding_text(f, text, sizeof(text)) + finding_json(f, text, sizeof(text));
}

static void check(void *arg)
{
	int dir = write_logs(arg);
	struct fsck_totals totals = { 0 };
	size_t said = 0;
	uint32_t folder, uid;
	struct verify v = { .dir_fd = dir, .account_id = ACCOUNT, .each = count, .arg = &said, .totals = &totals, .collect = true };
	(void)verify_logs(&v);
	verify_release(&v);
	bool lost;
	struct account *a = recover(dir, &lost);
	/* unknown records are met at every load, and so are bad ranges, which raise UIDNEXT */
	if (!a->read_only && !lost) {
		struct account *b = recover(dir, &lost);
		ASSERT(verify_same(a, b, &folder, &uid));
		release(b);
		state_save(a, dir);
		b = recover(dir, &lost);
		ASSERT(a->last.log == 0 || a->repair_count > 0 || (b->state_end == a->last.end && verify_same(a, b, &folder, &uid)));
		release(b);
	}
	release(a);
	file_close(dir);
}

static bool drop(void *arg, enum log_level level, struct slice line)
{
	(void)arg;
	(void)level;
	(void)line;
	return true;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_sink(drop, NULL);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct sim_config config = { .disk = sim_disk_new(), .seed = 1 };
	struct shard_options options = { .backend = &io_backend_sim };
	sim_use(&config);
	ASSERT(shard_run_alone_with(&options, check, &in) == OK);
	sim_disk_free(config.disk);
	return 0;
}
