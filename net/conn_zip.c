/* SPDX-License-Identifier: Apache-2.0 */
/* conn_zip.c - see conn_zip.h. */
#include "net/conn_zip.h"
#include "net/net_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"

#include <stdlib.h>
#include <zlib.h>

METRIC_COUNTER(begun, "net_compressed_total", "connections that switched to DEFLATE");

METRIC_GAUGE(open_now, "net_compressing", "connections with DEFLATE");
METRIC_GAUGE(kept_bytes, "net_compressed_bytes", "kept for them while they wait: history, and zlib's state of those amid a block");

#define RAW (-MAX_WBITS) /* no zlib header: RFC 4978 section 4 */

struct conn_zip {
	z_stream *in;     /* while it is used, or amid a block */
	char *history;    /* what the client's next bytes may refer to, while there is no `in` */
	uint32_t history_bytes;
	uint32_t at, end; /* of waiting */
	char *waiting;    /* squeezed bytes that have come */
	uint32_t counted_bytes;
	bool more;        /* the last look filled its room: zlib may hold more */
	bool broken, ended;
};

struct zip_shard {
	z_stream out;
	char to[];
};

static struct conn_zip *zip_of(const struct net_private *c) { return c->filter->zip; }

/* ---- life ---- */

bool conn_zip_reserve(void)
{
	if (__atomic_add_fetch(&net_process.compressed, 1, __ATOMIC_RELAXED) <= COMPRESS_SESSIONS_MAX)
		return true;
	conn_zip_unreserve();
	return false;
}

void conn_zip_unreserve(void) { __atomic_fetch_sub(&net_process.compressed, 1, __ATOMIC_RELAXED); }

void conn_zip_begin(struct net_private *c)
{
	ASSERT(!c->sending && !c->recv.pending && reply_empty(&conn_session(c)->reply) && !(c->filter && c->filter->zip));
	if (!c->filter)
		c->filter = xcalloc(1, sizeof *c->filter);
	c->filter->zip = xcalloc(1, sizeof *c->filter->zip);
	metric_inc(&begun);
	metric_inc(&open_now);
	struct slice unread = input_unread(&c->input); /* behind the command: DEFLATE already, whatever its sender thought */
	conn_zip_add(c, unread);
	input_use(&c->input, unread.len);
	frame_init(&c->frame);
}

static void close_in(struct conn_zip *z)
{
	if (!z->in)
		return;
	inflateEnd(z->in);
	free(z->in);
	z->in = NULL;
}

/* As it waits. */
static void count_kept(struct conn_zip *z, uint32_t bytes)
{
	metric_add(&kept_bytes, (int64_t)bytes - z->counted_bytes);
	z->counted_bytes = bytes;
}

void conn_zip_free(struct conn_zip *z)
{
	count_kept(z, 0);
	metric_dec(&open_now);
	close_in(z);
	free(z->history);
	free(z->waiting);
	free(z);
	conn_zip_unreserve();
}

/* ---- in ---- */

void conn_zip_add(struct net_private *c, struct slice squeezed)
{
	struct conn_zip *z = zip_of(c);
	if (!squeezed.len || z->ended || z->broken)
		return;
	size_t left = z->end - z->at;
	char *all = xmalloc(left + squeezed.len);
	if (left)
		memcpy(all, z->waiting + z->at, left);
	memcpy(all + left, squeezed.ptr, squeezed.len);
	free(z->waiting);
	z->waiting = all;
	z->at = 0;
	z->end = (uint32_t)(left + squeezed.len);
}

static void forget_waiting(struct conn_zip *z)
{
	free(z->waiting);
	z->waiting = NULL;
	z->at = z->end = 0;
	z->more = false;
}

static void open_in(struct conn_zip *z)
{
	if (z->in)
		return;
	z->in = xcalloc(1, sizeof *z->in);
	int r = inflateInit2(z->in, RAW);
	if (r == Z_OK && z->history_bytes)
		r = inflateSetDictionary(z->in, (const Bytef *)z->history, z->history_bytes);
	ASSERT(r == Z_OK); /* else there is no memory */
	free(z->history);
	z->history = NULL;
	z->history_bytes = 0;
}

/* Plain bytes into `to`. */
static size_t expand(struct conn_zip *z, char *to, size_t room)
{
	open_in(z);
	z->in->next_in = (Bytef *)z->waiting + z->at;
	z->in->avail_in = z->end - z->at;
	z->in->next_out = (Bytef *)to;
	z->in->avail_out = (uInt)room;
	int r = inflate(z->in, Z_SYNC_FLUSH);
	z->at = z->end - z->in->avail_in;
	z->more = !z->in->avail_out;
	z->ended = r == Z_STREAM_END;
	z->broken = r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR;
	if (z->ended || z->broken || (z->at == z->end && !z->more))
		forget_waiting(z);
	return room - z->in->avail_out;
}

bool conn_zip_more(struct net_private *c)
{
	struct conn_zip *z = zip_of(c);
	char plain[KIB(4)];
	if (z->ended || z->broken || (z->at == z->end && !z->more))
		return false;
	size_t n = expand(z, plain, sizeof plain);
	if (z->broken)
		log_event(LOG_INFO, "net.not_deflate", LOG_U64("session", conn_session(c)->id), LOG_Z("protocol", conn_session(c)->proto->name),
			  LOG_Z("peer", conn_session(c)->peer), LOG_Z("reason", z->in->msg ? z->in->msg : "a dictionary"));
	c->eof |= z->ended; /* the client's last block: nothing can follow */
	if (!n || z->broken)
		return false;
	/* As in the clear: more of a line that has begun is no sign of life, and blocks without bytes are none either. */
	if (!c->sending && !(c->next == NEXT_LINE && (input_len(&c->input) || c->frame.swallowed)))
		c->active_ms = clock_now_ms();
	input_add(&c->input, slice_of(plain, n), &c->shard->input);
	c->data_starved = false;
	return true;
}

bool conn_zip_broken(const struct net_private *c) { return zip_of(c)->broken; }

/* zlib.h, of data_type: 128 at the end of a block, 64 in the last one, below that bits of a byte that are not used yet. */
static bool between_blocks(const z_stream *in) { return (in->data_type & 0xff) == 128; }

bool conn_zip_amid(const struct net_private *c)
{
	const struct conn_zip *z = zip_of(c);
	return z->at != z->end || (z->in && !z->ended && !z->broken && !between_blocks(z->in));
}

void conn_zip_park(struct net_private *c)
{
	struct conn_zip *z = zip_of(c);
	if (z->ended || z->broken)
		close_in(z);
	if (!z->in)
		return;
	if (z->end || z->more || !between_blocks(z->in)) {
		count_kept(z, COMPRESS_STATE_BYTES);
		return;
	}
	uInt bytes = 0;
	int r = inflateGetDictionary(z->in, NULL, &bytes);
	ASSERT(r == Z_OK && bytes <= COMPRESS_HISTORY_BYTES_MAX);
	z->history = bytes ? xmalloc(bytes) : NULL;
	z->history_bytes = bytes;
	if (bytes)
		inflateGetDictionary(z->in, (Bytef *)z->history, &bytes);
	close_in(z);
	count_kept(z, bytes);
}

/* ---- out ---- */

/* Stored blocks, should it not shrink, and the flush: what zlib adds at most is named in its deflateBound, generously rounded here. */
size_t conn_zip_bound(size_t plain) { return plain + plain / 1024 + 64; }

static struct zip_shard *shard_state(struct net_shard *sh)
{
	if (sh->zip) {
		deflateReset(&sh->zip->out);
		return sh->zip;
	}
	sh->zip = xcalloc(1, sizeof *sh->zip + conn_zip_bound(COMPRESS_PLAIN_BYTES_MAX));
	int r = deflateInit2(&sh->zip->out, COMPRESS_LEVEL, Z_DEFLATED, RAW, MAX_MEM_LEVEL, Z_DEFAULT_STRATEGY);
	ASSERT(r == Z_OK); /* else there is no memory */
	return sh->zip;
}

struct slice conn_zip_squeeze(struct net_shard *sh, struct slice plain)
{
	ASSERT(plain.len <= COMPRESS_PLAIN_BYTES_MAX);
	struct zip_shard *z = shard_state(sh);
	size_t room = conn_zip_bound(plain.len);
	z->out.next_in = (Bytef *)(uintptr_t)plain.ptr;
	z->out.avail_in = (uInt)plain.len;
	z->out.next_out = (Bytef *)z->to;
	z->out.avail_out = (uInt)room;
	int r = deflate(&z->out, Z_SYNC_FLUSH);
	ASSERT(r == Z_OK && !z->out.avail_in && z->out.avail_out);
	return slice_of(z->to, room - z->out.avail_out);
}

void conn_zip_shard_close(struct net_shard *sh)
{
	if (!sh->zip)
		return;
	deflateEnd(&sh->zip->out);
	free(sh->zip);
	sh->zip = NULL;
}
