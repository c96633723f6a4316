/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.c - the encoders and decoders of each record (drawn in format.h).
 *
 * A record is put by reserving its exact size and filling it, so nothing is written twice and there is no intermediate
 * copy.  It is taken apart by a cursor that hands out what fits and remembers if something did not; whoever reads asks
 * once, at the end.
 */
#include "storage/format.h"
#include "storage/store.h"

/* ---- putting ---- */

struct put {
	char *record, *at;
	size_t bytes;
};

static bool put_begin(struct put *p, struct buf *heads, enum record_type type, unsigned flags, size_t payload_bytes)
{
	size_t bytes = (size_t)format_pad8(RECORD_HEADER_BYTES + payload_bytes);
	struct record_header h = {
		.type = (uint16_t)type, .flags = (uint8_t)flags, .version = 1, .bytes = (uint32_t)bytes
	};

	ASSERT(heads->len % 8 == 0);
	if (bytes > UINT32_MAX || !(p->record = buf_room(heads, bytes)))
		return false;
	memcpy(p->record, &h, sizeof(h));
	memset(p->record + bytes - 8, 0, 8); /* the padding is in the last word, which is filled below but for that */
	p->at = p->record + sizeof(h);
	p->bytes = bytes;
	return true;
}

static void put_bytes(struct put *p, const void *ptr, size_t len)
{
	if (len > 0)
		memcpy(p->at, ptr, len);
	p->at += len;
}

static void put_slice(struct put *p, struct slice s) { put_bytes(p, s.ptr, s.len); }

static void record_seal(char *record, size_t bytes)
{
	uint64_t hash = hash64(slice_of(record + RECORD_HEADER_BYTES, bytes - RECORD_HEADER_BYTES), get_le64(record));

	put_le64(record + offsetof(struct record_header, hash), hash);
}

static bool put_end(struct put *p, struct buf *heads)
{
	ASSERT(p->at <= p->record + p->bytes && p->at + 8 > p->record + p->bytes);
	record_seal(p->record, p->bytes);
	heads->len += p->bytes;
	return true;
}

static bool put_fixed(struct buf *heads, enum record_type type, const void *fixed, size_t bytes)
{
	struct put p;

	if (!put_begin(&p, heads, type, 0, bytes))
		return false;
	put_bytes(&p, fixed, bytes);
	return put_end(&p, heads);
}

bool open_put(struct buf *heads, const struct open_record *r)
{
	struct open_fixed f = r->fixed;
	struct put p;

	f.node_bytes = (uint16_t)min_size(r->node.len, UINT16_MAX);
	if (!put_begin(&p, heads, RECORD_OPEN, 0, sizeof(f) + f.node_bytes))
		return false;
	put_bytes(&p, &f, sizeof(f));
	put_bytes(&p, r->node.ptr, f.node_bytes);
	return put_end(&p, heads);
}

bool cut_put(struct buf *heads, const struct cut_record *r)
{
	struct put p;
	size_t ends_bytes = r->fixed.count * sizeof(struct cut_end);

	if (!put_begin(&p, heads, RECORD_CUT, 0, sizeof(r->fixed) + ends_bytes))
		return false;
	put_bytes(&p, &r->fixed, sizeof(r->fixed));
	put_bytes(&p, r->ends, ends_bytes);
	return put_end(&p, heads);
}

bool folder_put(struct buf *heads, unsigned flags, const struct folder_record *r)
{
	struct folder_fixed f = r->fixed;
	struct put p;

	ASSERT(r->name.len <= UINT16_MAX && r->name2.len <= UINT16_MAX);
	f.name_bytes = (uint16_t)r->name.len;
	f.name2_bytes = (uint16_t)r->name2.len;
	if (!put_begin(&p, heads, RECORD_FOLDER, flags, sizeof(f) + r->name.len + r->name2.len))
		return false;
	put_bytes(&p, &f, sizeof(f));
	put_slice(&p, r->name);
	put_slice(&p, r->name2);
	return put_end(&p, heads);
}

bool body_put(struct buf *heads, unsigned flags, const struct body_record *r)
{
	struct body_fixed f = r->fixed;
	size_t dots = f.dot_count * sizeof(uint64_t), parts = f.part_count * sizeof(struct part_disk);
	struct put p;

	ASSERT(r->preview.len <= UINT16_MAX && r->envelope.len <= UINT32_MAX && r->structure.len <= UINT32_MAX &&
	       r->keys.len <= UINT32_MAX);
	f.envelope_bytes = (uint32_t)r->envelope.len;
	f.structure_bytes = (uint32_t)r->structure.len;
	f.preview_bytes = (uint16_t)r->preview.len;
	f.keys_bytes = (uint32_t)r->keys.len;
	if (!put_begin(&p, heads, RECORD_BODY, flags,
		       sizeof(f) + dots + parts + r->envelope.len + r->structure.len + r->preview.len + r->keys.len))
		return false;
	put_bytes(&p, &f, sizeof(f));
	put_bytes(&p, r->dots, dots);
	put_bytes(&p, r->parts, parts);
	put_slice(&p, r->envelope);
	put_slice(&p, r->structure);
	put_slice(&p, r->preview);
	put_slice(&p, r->keys);
	return put_end(&p, heads);
}

void body_set_distance(struct buf *heads, size_t offset, uint64_t distance)
{
	char *record = heads->ptr + offset;
	struct record_header h;

	ASSERT(offset + RECORD_HEADER_BYTES + sizeof(struct body_fixed) <= heads->len);
	memcpy(&h, record, sizeof(h));
	ASSERT(h.type == RECORD_BODY);
	put_le64(record + RECORD_HEADER_BYTES + offsetof(struct body_fixed, data_distance), distance);
	record_seal(record, h.bytes);
}

bool message_put(struct buf *heads, unsigned flags, const struct message_record *r)
{
	struct message_fixed f = r->fixed;
	size_t words = f.keyword_words * sizeof(uint64_t);
	struct put p;

	ASSERT(r->prefix.len <= UINT32_MAX && r->uidl.len <= UINT16_MAX && r->from.len <= UINT16_MAX &&
	       r->rcpt.len <= UINT16_MAX);
	f.prefix_bytes = (uint32_t)r->prefix.len;
	f.uidl_bytes = (uint16_t)r->uidl.len;
	f.from_bytes = (uint16_t)r->from.len;
	f.rcpt_bytes = (uint16_t)r->rcpt.len;
	if (!put_begin(&p, heads, RECORD_MESSAGE, flags,
		       sizeof(f) + words + r->prefix.len + r->uidl.len + r->from.len + r->rcpt.len))
		return false;
	put_bytes(&p, &f, sizeof(f));
	put_bytes(&p, r->keywords, words);
	put_slice(&p, r->prefix);
	put_slice(&p, r->uidl);
	put_slice(&p, r->from);
	put_slice(&p, r->rcpt);
	return put_end(&p, heads);
}

bool flags_put(struct buf *heads, unsigned flags, const struct flags_record *r)
{
	size_t words = r->fixed.keyword_words * sizeof(uint64_t),
	       ranges = r->fixed.range_count * sizeof(struct uid_range);
	struct put p;

	if (!put_begin(&p, heads, RECORD_FLAGS, flags, sizeof(r->fixed) + 2 * words + ranges))
		return false;
	put_bytes(&p, &r->fixed, sizeof(r->fixed));
	put_bytes(&p, r->keywords_set, words);
	put_bytes(&p, r->keywords_clear, words);
	put_bytes(&p, r->ranges, ranges);
	return put_end(&p, heads);
}

bool expunge_put(struct buf *heads, unsigned flags, const struct expunge_record *r)
{
	size_t ranges = r->fixed.range_count * sizeof(struct uid_range),
	       guids = (size_t)r->fixed.guid_count * GUID_BYTES;
	struct put p;

	if (!put_begin(&p, heads, RECORD_EXPUNGE, flags, sizeof(r->fixed) + ranges + guids))
		return false;
	put_bytes(&p, &r->fixed, sizeof(r->fixed));
	put_bytes(&p, r->ranges, ranges);
	put_bytes(&p, r->guids, guids);
	return put_end(&p, heads);
}

bool fact_put(struct buf *heads, unsigned flags, const struct fact_record *r)
{
	struct fact_fixed f = r->fixed;
	struct put p;

	ASSERT(r->data.len <= UINT32_MAX);
	f.data_bytes = (uint32_t)r->data.len;
	if (!put_begin(&p, heads, RECORD_FACT, flags, sizeof(f) + r->data.len))
		return false;
	put_bytes(&p, &f, sizeof(f));
	put_slice(&p, r->data);
	return put_end(&p, heads);
}

bool seal_put(struct buf *heads, const struct seal_fixed *r) { return put_fixed(heads, RECORD_SEAL, r, sizeof(*r)); }
bool stub_put(struct buf *heads, const struct stub_fixed *r) { return put_fixed(heads, RECORD_STUB, r, sizeof(*r)); }

/* ---- taking apart ---- */

struct take {
	struct slice left;
	bool bad;
};

/* The next `bytes` bytes, or NULL. */
static const char *take_bytes(struct take *t, uint64_t bytes)
{
	const char *p = t->left.ptr;

	if (t->bad || bytes > t->left.len) {
		t->bad = true;
		return NULL;
	}
	t->left = slice_from(t->left, (size_t)bytes);
	return p;
}

static bool take_fixed(struct take *t, const struct record *r, void *out, size_t bytes)
{
	const char *p;

	*t = (struct take){ .left = r->payload };
	p = take_bytes(t, bytes);
	if (p)
		memcpy(out, p, bytes);
	else
		memset(out, 0, bytes);
	return p != NULL;
}

static struct slice take_slice(struct take *t, uint64_t bytes)
{
	const char *p = take_bytes(t, bytes);

	return slice_of(p, p ? (size_t)bytes : 0);
}

/* count elements of `each` bytes, aligned as the heads are */
static const void *take_array(struct take *t, uint64_t count, size_t each) { return take_bytes(t, count * each); }

/* Nothing is left but padding. */
static bool take_end(const struct take *t) { return !t->bad && t->left.len < 8; }

bool open_get(const struct record *r, struct open_record *out)
{
	struct take t;

	if (!take_fixed(&t, r, &out->fixed, sizeof(out->fixed)))
		return false;
	out->node = take_slice(&t, out->fixed.node_bytes);
	return take_end(&t) && out->fixed.log > 0 && out->fixed.log <= LOG_NUMBER_MAX;
}

bool cut_get(const struct record *r, struct cut_record *out)
{
	struct take t;

	if (!take_fixed(&t, r, &out->fixed, sizeof(out->fixed)))
		return false;
	out->ends = take_array(&t, out->fixed.count, sizeof(struct cut_end));
	return take_end(&t);
}

uint64_t cut_end_of(const struct cut_record *cut, uint64_t log)
{
	for (uint32_t i = 0; i < cut->fixed.count; i++)
		if (cut->ends[i].log == log)
			return cut->ends[i].end;
	return 0;
}

bool folder_get(const struct record *r, struct folder_record *out)
{
	struct take t;

	if (!take_fixed(&t, r, &out->fixed, sizeof(out->fixed)))
		return false;
	out->name = take_slice(&t, out->fixed.name_bytes);
	out->name2 = take_slice(&t, out->fixed.name2_bytes);
	return take_end(&t) && out->fixed.op >= FOLDER_CREATE && out->fixed.op <= FOLDER_STATE;
}

bool body_get(const struct record *r, struct body_record *out)
{
	struct body_fixed *f = &out->fixed;
	struct take t;

	if (!take_fixed(&t, r, f, sizeof(*f)))
		return false;
	out->dots = take_array(&t, f->dot_count, sizeof(uint64_t));
	out->parts = take_array(&t, f->part_count, sizeof(struct part_disk));
	out->envelope = take_slice(&t, f->envelope_bytes);
	out->structure = take_slice(&t, f->structure_bytes);
	out->preview = take_slice(&t, f->preview_bytes);
	out->keys = take_slice(&t, f->keys_bytes);
	return take_end(&t) && f->header_bytes <= f->bytes && f->bytes <= INT64_MAX;
}

static bool uidl_good(struct slice uidl)
{
	for (size_t i = 0; i < uidl.len; i++)
		if (uidl.ptr[i] < 0x21 || uidl.ptr[i] > 0x7e)
			return false;
	return uidl.len <= UIDL_BYTES_MAX;
}

bool message_get(const struct record *r, struct message_record *out)
{
	struct message_fixed *f = &out->fixed;
	struct take t;

	if (!take_fixed(&t, r, f, sizeof(*f)))
		return false;
	out->keywords = take_array(&t, f->keyword_words, sizeof(uint64_t));
	out->prefix = take_slice(&t, f->prefix_bytes);
	out->uidl = take_slice(&t, f->uidl_bytes);
	out->from = take_slice(&t, f->from_bytes);
	out->rcpt = take_slice(&t, f->rcpt_bytes);
	return take_end(&t) && f->uid > 0 && f->uid < UINT32_MAX && f->folder > 0 && f->bytes >= f->prefix_bytes &&
	       f->bytes <= INT64_MAX && uidl_good(out->uidl);
}

static bool ranges_ascend(const struct uid_range *ranges, uint32_t count)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (ranges[i].first <= last || ranges[i].last < ranges[i].first)
			return false;
		last = ranges[i].last;
	}
	return true;
}

bool flags_get(const struct record *r, struct flags_record *out)
{
	struct flags_fixed *f = &out->fixed;
	struct take t;

	if (!take_fixed(&t, r, f, sizeof(*f)))
		return false;
	out->keywords_set = take_array(&t, f->keyword_words, sizeof(uint64_t));
	out->keywords_clear = take_array(&t, f->keyword_words, sizeof(uint64_t));
	out->ranges = take_array(&t, f->range_count, sizeof(struct uid_range));
	return take_end(&t) && ranges_ascend(out->ranges, f->range_count);
}

bool expunge_get(const struct record *r, struct expunge_record *out)
{
	struct expunge_fixed *f = &out->fixed;
	struct take t;

	if (!take_fixed(&t, r, f, sizeof(*f)))
		return false;
	out->ranges = take_array(&t, f->range_count, sizeof(struct uid_range));
	out->guids = take_array(&t, f->guid_count, GUID_BYTES);
	return take_end(&t) && ranges_ascend(out->ranges, f->range_count);
}

bool fact_get(const struct record *r, struct fact_record *out)
{
	struct take t;

	if (!take_fixed(&t, r, &out->fixed, sizeof(out->fixed)))
		return false;
	out->data = take_slice(&t, out->fixed.data_bytes);
	return take_end(&t);
}

bool seal_get(const struct record *r, struct seal_fixed *out)
{
	struct take t;

	return take_fixed(&t, r, out, sizeof(*out)) && take_end(&t);
}

bool stub_get(const struct record *r, struct stub_fixed *out)
{
	struct take t;

	return take_fixed(&t, r, out, sizeof(*out)) && take_end(&t);
}
