/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_fuzz.c - the same bytes cut anywhere give the same lines.
 *
 * The first bytes of the input choose the rules and the cuts; the rest is fed whole and cut, and what comes out is compared.
 * The buffer between them (input.c) is exercised too: trimmed, moved, used in part.
 */
#include "core/base/limits.h"
#include "net/frame.h"
#include "net/input.h"

#include <stdlib.h>

/* All that came out, so that two runs can be compared: found, length, content. */
static void note(struct buf *out, enum frame_found found, struct slice line)
{
	uint32_t head[2] = { (uint32_t)found, (uint32_t)line.len };
	ASSERT(buf_put(out, head, sizeof(head)) && buf_put(out, line.ptr, line.len));
}

static bool step(struct frame *f, const struct frame_rules *rules, struct input *in, struct buf *out)
{
	struct slice line = slice_of("", 0);
	size_t used;
	enum frame_found found = frame_next(f, rules, input_unread(in), &line, &used);
	if (found == FRAME_LINE)
		ASSERT(line.len <= rules->line_bytes_max);
	if (found != FRAME_MORE)
		note(out, found, line);
	input_use(in, used);
	return found != FRAME_MORE && found != FRAME_ENDLESS;
}

static void run(const struct frame_rules *rules, struct slice bytes, const uint8_t *cuts, size_t cut_count, struct buf *out)
{
	struct input_pools pools;
	struct input in;
	struct frame f;
	input_pools_init(&pools);
	input_init(&in);
	frame_init(&f);
	for (size_t i = 0; bytes.len; i++) {
		size_t n = cut_count ? min_size(bytes.len, (size_t)cuts[i % cut_count] + 1) : bytes.len;
		char *piece = malloc(n); /* of its own, so that reading behind it is caught */
		ASSERT(piece);
		memcpy(piece, bytes.ptr, n);
		input_add(&in, slice_of(piece, n), &pools);
		free(piece);
		bytes = slice_from(bytes, n);
		while (step(&f, rules, &in, out))
			;
		if (i % 3 == 0)
			input_trim(&in, &pools);
	}
	note(out, FRAME_MORE, input_unread(&in));
	input_release(&in, &pools);
	input_pools_release(&pools);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 10)
		return 0;
	struct frame_rules rules = { .line_bytes_max = data[0], .lf_ends_line = data[1] & 1 };
	struct slice bytes = slice_of(data + 10, size - 10);
	struct buf whole, cut, single;
	buf_init(&whole, MIB(256));
	buf_init(&cut, MIB(256));
	buf_init(&single, MIB(256));
	run(&rules, bytes, NULL, 0, &whole);
	run(&rules, bytes, data + 2, 8, &cut);
	run(&rules, bytes, (const uint8_t *)"", 1, &single);
	ASSERT(slice_eq(buf_slice(&whole), buf_slice(&cut)));
	ASSERT(slice_eq(buf_slice(&whole), buf_slice(&single)));
	buf_release(&whole);
	buf_release(&cut);
	buf_release(&single);
	return 0;
}
