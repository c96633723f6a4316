/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.c - commits: headers, hashes, and the walk over records; names on disk.  What is in a record: record.c.
 */
#include "storage/format.h"

#include <stdio.h>

static struct slice header_hashed(const struct commit_header *h)
{
	return slice_of(h, offsetof(struct commit_header, header_hash));
}

uint64_t format_seed(uint64_t salt, uint64_t log, uint64_t offset)
{
	const uint64_t place[3] = { offset == 0 ? 0 : salt, log, offset };

	return hash64(slice_of(place, sizeof(place)), 0);
}

void commit_header_put(struct commit_header *header, struct slice heads, uint64_t salt, uint64_t log, uint64_t offset,
		       void *out)
{
	ASSERT(offset % 8 == 0 && heads.len % 8 == 0 && header->bytes % 8 == 0);
	ASSERT(header->bytes >= COMMIT_HEADER_BYTES + heads.len);
	header->magic = COMMIT_MAGIC;
	header->version = FORMAT_VERSION;
	header->flags = 0;
	header->heads_bytes = (uint32_t)heads.len;
	header->heads_hash = hash64(heads, 0);
	header->header_hash = hash64(header_hashed(header), format_seed(salt, log, offset));
	memcpy(out, header, sizeof(*header));
}

bool commit_header_get(const void *bytes, uint64_t salt, uint64_t log, uint64_t offset,
		       struct commit_header *header_out)
{
	struct commit_header *h = header_out;

	memcpy(h, bytes, sizeof(*h));
	if (h->magic != COMMIT_MAGIC || h->header_hash != hash64(header_hashed(h), format_seed(salt, log, offset)))
		return false;
	/* a right hash speaks for an owner, not for his arithmetic */
	return h->bytes % 8 == 0 && h->heads_bytes % 8 == 0 &&
	       h->bytes >= COMMIT_HEADER_BYTES + (uint64_t)h->heads_bytes && h->previous_end <= offset &&
	       h->synced_end <= offset && h->bytes <= UINT64_MAX - offset &&
	       h->records <= h->heads_bytes / RECORD_HEADER_BYTES;
}

bool commit_header_known(const struct commit_header *header)
{
	return header->version == FORMAT_VERSION && header->flags == 0;
}

bool commit_heads_good(const struct commit_header *header, struct slice heads)
{
	return heads.len == header->heads_bytes && hash64(heads, 0) == header->heads_hash;
}

size_t commit_header_find(struct slice bytes, uint64_t salt, uint64_t log, uint64_t offset,
			  struct commit_header *header_out)
{
	ASSERT(offset % 8 == 0);
	for (size_t i = 0; i + COMMIT_HEADER_BYTES <= bytes.len; i += 8)
		if (get_le32(bytes.ptr + i) == COMMIT_MAGIC &&
		    commit_header_get(bytes.ptr + i, salt, log, offset + i, header_out))
			return i;
	return SIZE_MAX;
}

/* ---- records ---- */

static uint64_t record_hash(const char *record, size_t bytes)
{
	return hash64(slice_of(record + RECORD_HEADER_BYTES, bytes - RECORD_HEADER_BYTES), get_le64(record));
}

bool record_get(struct slice bytes, struct record *record_out)
{
	struct record_header h;

	if (bytes.len < sizeof(h))
		return false;
	memcpy(&h, bytes.ptr, sizeof(h));
	if (h.bytes < sizeof(h) || h.bytes % 8 != 0 || h.bytes > bytes.len || h.hash != record_hash(bytes.ptr, h.bytes))
		return false;
	*record_out = (struct record){ .type = h.type,
				       .flags = h.flags,
				       .version = h.version,
				       .bytes = h.bytes,
				       .payload = slice_of(bytes.ptr + sizeof(h), h.bytes - sizeof(h)) };
	return true;
}

int record_next(struct slice heads, size_t *offset_io, struct record *record_out)
{
	if (*offset_io == heads.len)
		return RECORD_NEXT_END;
	if (*offset_io > heads.len || !record_get(slice_from(heads, *offset_io), record_out))
		return RECORD_NEXT_BAD;
	record_out->offset = *offset_io;
	*offset_io += record_out->bytes;
	return RECORD_NEXT_OK;
}

bool record_known(const struct record *r)
{
	return r->version == 1 && r->type >= RECORD_OPEN && r->type <= RECORD_STUB &&
	       (r->flags & ~(RECORD_IGNORABLE | RECORD_RELOCATED)) == 0;
}

/* ---- names ---- */

void log_name(uint64_t log, char name_out[LOG_NAME_BYTES])
{
	ASSERT(log > 0 && log <= LOG_NUMBER_MAX);
	name_out[0] = 'L';
	name_out[1] = '.';
	name_out[2 + put_u64(name_out + 2, log)] = 0;
}

bool log_name_number(const char *name, uint32_t *log_out)
{
	uint64_t n;

	if (name[0] != 'L' || name[1] != '.' || name[2] == '0' || !slice_u64(slice_str(name + 2), LOG_NUMBER_MAX, &n))
		return false;
	*log_out = (uint32_t)n;
	return true;
}

void account_path(uint64_t account_id, char path_out[ACCOUNT_PATH_BYTES])
{
	const uint64_t h = hash64(slice_of(&account_id, sizeof(account_id)), 0);
	int n = snprintf(path_out, ACCOUNT_PATH_BYTES, "a/%02x/%02x/%016llx", (unsigned)(h >> 56),
			 (unsigned)(h >> 48) & 0xff, (unsigned long long)account_id);

	ASSERT(n > 0 && n < ACCOUNT_PATH_BYTES);
}
