/* SPDX-License-Identifier: Apache-2.0 */
/* conn_tls.c - see conn_tls.h. */
#include "net/conn_tls.h"
#include "net/net_private.h"

#include "core/base/log.h"

#include <errno.h>
#include <stdlib.h>

/*
 *     buf: | sealed so far | ... room ... | plain, still to be sealed |
 *          0 -> sealed                    plain_at                    cap
 */
struct tls_flight {
	struct io_op read;
	struct net_private *conn;
	const struct io_piece *pieces; /* reply_gather's */
	size_t count, at;
	uint64_t at_off; /* of pieces[at]: taken */
	char *buf;
	size_t cap, sealed, plain_at, plain_len, plain_want;
	bool first, broken;
	struct io_piece piece; /* the sealed bytes, for io_send */
};

static_assert_c(TLS_BULK_BYTES >= TLS_PLAIN_BYTES_MAX + TLS_RECORD_OVERHEAD_BYTES * (TLS_PLAIN_BYTES_MAX / TLS_RECORD_FIRST_BYTES + 2) +
			TLS_SEAL_SLACK_BYTES + TLS_PENDING_ALONG_BYTES, "a buffer holds its records");

static struct tls *tls_of(const struct net_private *c) { return c->filter->tls; }

size_t conn_tls_flight_bytes(void) { return sizeof(struct tls_flight); }

static void feed(struct net_private *c, struct slice sealed);

/* ---- life ---- */

void conn_tls_begin(struct net_private *c, struct slice sealed)
{
	ASSERT(!c->filter && !c->sending && !c->recv.pending && !input_len(&c->input) && reply_empty(&conn_session(c)->reply));
	c->filter = xcalloc(1, sizeof *c->filter);
	c->filter->tls = tls_new(listener_tls_rules(conn_session(c)->listener));
	c->active_ms = clock_now_ms();
	conn_timer_at_most(c, TLS_SHAKE_MS_MAX);
	if (sealed.len)
		feed(c, sealed);
	else
		conn_settle(c);
}

void conn_filter_free(struct net_private *c)
{
	ASSERT(!c->filter->flight);
	if (c->filter->tls)
		tls_free(c->filter->tls);
	if (c->filter->zip)
		conn_zip_free(c->filter->zip);
	free(c->filter);
	c->filter = NULL;
}

bool conn_tls_shaking(const struct net_private *c)
{
	enum tls_state state = tls_state(tls_of(c));
	return state == TLS_SHAKING || state == TLS_WORK;
}

/* ---- input ---- */

bool conn_tls_wants_input(const struct net_private *c)
{
	enum tls_state state = tls_state(tls_of(c));
	return state == TLS_SHAKING || (state == TLS_OPEN && (c->next == NEXT_LINE || c->next == NEXT_DATA));
}

/* Decrypts what is there into the input; true if that was anything. At most what one receive and one unfinished record hold. */
static bool drain(struct net_private *c)
{
	char plain[KIB(8)];
	bool any = false;
	size_t n;
	while ((n = tls_read(tls_of(c), plain, sizeof plain)) > 0) {
		if (conn_zips(c))
			conn_zip_add(c, slice_of(plain, n));
		else
			input_add(&c->input, slice_of(plain, n), &c->shard->input);
		c->data_starved = false;
		any = true;
	}
	tls_fed(tls_of(c));
	return any;
}

static void name_failure(const struct net_private *c, bool shaking)
{
	const struct session *s = conn_session((struct net_private *)(uintptr_t)c);
	log_event(LOG_INFO, "tls.failed", LOG_U64("session", s->id), LOG_Z("protocol", s->proto->name), LOG_Z("peer", s->peer),
		  LOG_BOOL("handshake", shaking), LOG_Z("reason", tls_failure(tls_of(c))));
}

/* What the state means for the session. True: there is something for its fiber. */
static bool took(struct net_private *c, bool was_shaking, bool any)
{
	switch (tls_state(tls_of(c))) {
	case TLS_SHAKING:
		return false;
	case TLS_WORK:
		return true;
	case TLS_OPEN:
		if (was_shaking)
			c->active_ms = clock_now_ms();
		return any || c->eof || c->next == NEXT_OPEN;
	case TLS_ENDED:
		c->eof = true;
		return true;
	case TLS_FAILED:
		if (!c->ended)
			name_failure(c, was_shaking);
		conn_end(c, END_PROTOCOL, false); /* the alert is still sent */
		return true;
	}
	UNREACHABLE();
}

/* Sealed bytes, or none: the end of the stream. */
static void feed(struct net_private *c, struct slice sealed)
{
	bool was_shaking = conn_tls_shaking(c), any = false;
	if (!sealed.len) { /* without close_notify: whole lines have been worked on, half a line never is */
		c->eof = true;
	} else {
		conn_count_in(c, sealed.len);
		bool amid_line = c->next == NEXT_LINE && (input_len(&c->input) || c->frame.swallowed);
		tls_feed(tls_of(c), sealed);
		any = drain(c);
		if (any && !c->sending && !amid_line && !conn_zips(c)) /* as in the clear; part of a record is no sign of life, and a handshake has its time as a whole */
			c->active_ms = clock_now_ms();
	}
	if (c->eof && conn_tls_shaking(c)) {
		conn_fail(c, END_CLIENT);
		return;
	}
	bool wake = took(c, was_shaking, any);
	if (c->running)
		return;
	if (wake)
		session_wake(c);
	else
		conn_settle(c);
}

void conn_tls_received(struct net_private *c)
{
	bool some = c->recv.result > 0;
	if (some) {
		STAT_ADD(c->shard, bytes_in, (uint64_t)c->recv.result);
		c->hot = c->recv.result >= (int64_t)IO_RECV_BYTES_MAX || c->recv.hot;
	}
	feed(c, some ? c->recv.data : slice_of(NULL, 0));
}

bool conn_tls_ready(struct net_private *c)
{
	while (!c->ended && tls_state(tls_of(c)) == TLS_WORK) {
		tls_work(tls_of(c));
		if (c->ended)
			break;
		bool any = drain(c);
		took(c, true, any);
	}
	return !c->ended && !conn_tls_shaking(c);
}

/* ---- output ---- */

static void take_buffer(struct net_private *c, struct tls_flight *f, size_t need)
{
	struct net_shard *sh = c->shard;
	f->cap = need <= TLS_SMALL_BYTES ? TLS_SMALL_BYTES : max_size(need, TLS_BULK_BYTES);
	f->buf = f->cap == TLS_SMALL_BYTES ? pool_get(&sh->tls_small) : f->cap == TLS_BULK_BYTES ? pool_get(&sh->tls_bulk) : xmalloc(f->cap);
}

static void give_buffer(struct net_private *c, struct tls_flight *f)
{
	struct net_shard *sh = c->shard;
	if (!f->buf)
		return;
	if (f->cap == TLS_SMALL_BYTES)
		pool_put(&sh->tls_small, f->buf);
	else if (f->cap == TLS_BULK_BYTES)
		pool_put(&sh->tls_bulk, f->buf);
	else
		free(f->buf);
	f->buf = NULL;
}

/* Plain bytes that the flight has left, counted up to max. */
static size_t plain_left(const struct tls_flight *f, size_t max)
{
	uint64_t left = 0;
	for (size_t i = f->at; i < f->count && left < max; i++)
		left += f->pieces[i].len - (i == f->at ? f->at_off : 0);
	return (size_t)min_u64(left, max);
}

static void advance(struct tls_flight *f, uint64_t bytes)
{
	f->plain_len += bytes;
	f->at_off += bytes;
	if (f->at_off == f->pieces[f->at].len) {
		f->at++;
		f->at_off = 0;
	}
}

/* From the plain end towards the front. The first bytes of a long flight leave in records that fit a segment. */
static void seal(struct net_private *c, struct tls_flight *f, struct slice plain)
{
	struct slice head = slice_upto(plain, f->first && plain.len > TLS_FIRST_BYTES ? TLS_FIRST_BYTES : 0);
	const struct { struct slice bytes; size_t record; } parts[] = { { head, TLS_RECORD_FIRST_BYTES },
									 { slice_from(plain, head.len), TLS_RECORD_BYTES_MAX } };
	for (unsigned i = 0; i < ARRAY_LEN(parts) && !f->broken; i++) {
		size_t n = parts[i].bytes.len ? tls_seal(tls_of(c), parts[i].bytes, parts[i].record, f->buf + f->sealed, f->cap - f->sealed) : 0;
		f->sealed += n;
		f->broken = parts[i].bytes.len && !n;
	}
	f->first = false;
}

/* The last bytes of all: close_notify leaves with them. Its record fits the slack of tls_sealed_bytes_max. */
static void seal_end(struct net_private *c, struct tls_flight *f)
{
	const struct reply *r = &conn_session(c)->reply;
	if (c->phase != CONN_FLUSHING || f->at < f->count || r->flying < r->pieces || f->broken || !tls_shut(tls_of(c)))
		return;
	struct slice end = tls_pending(tls_of(c));
	if (end.len > f->cap - f->sealed)
		return; /* it leaves by itself */
	memcpy(f->buf + f->sealed, end.ptr, end.len);
	f->sealed += end.len;
	tls_pending_sent(tls_of(c));
}

static void transmit(struct net_private *c, struct tls_flight *f)
{
	struct slice plain = slice_of(f->buf + f->plain_at, f->plain_len);
	if (plain.len && conn_zips(c))
		plain = conn_zip_squeeze(c->shard, plain);
	if (plain.len && tls_of(c)) {
		seal(c, f, plain);
		seal_end(c, f);
	} else if (plain.len) {
		memcpy(f->buf, plain.ptr, plain.len);
		f->sealed = plain.len;
	}
	f->piece = (struct io_piece){ .ptr = f->buf, .len = f->broken ? 0 : f->sealed, .fd = -1 };
	c->looked = false;
	c->active_ms = clock_now_ms();
	conn_timer_at_most(c, conn_stall_look_ms());
	io_send(&c->send, c->fd, &f->piece, f->broken ? 0 : 1); /* broken: ends later and without a byte */
}

/* Brings the buffer's plain bytes together; goes on when a read is done. */
static void fill(struct net_private *c, struct tls_flight *f)
{
	while (f->plain_len < f->plain_want) {
		const struct io_piece *p = &f->pieces[f->at];
		size_t n = (size_t)min_u64(p->len - f->at_off, f->plain_want - f->plain_len);
		char *to = f->buf + f->plain_at + f->plain_len;
		if (p->fd >= 0 && n) {
			io_read_at(&f->read, p->fd, to, n, p->offset + f->at_off);
			return;
		}
		if (n)
			memcpy(to, p->ptr + f->at_off, n);
		advance(f, n);
	}
	transmit(c, f);
}

static void part_read(struct io_op *op)
{
	struct tls_flight *f = CONTAINER_OF(op, struct tls_flight, read);
	struct net_private *c = f->conn;
	int64_t result = op->result == 0 ? -EIO : op->result; /* the file is shorter than the piece says: this reply cannot be made whole */
	if (result > 0 && (c->aborted || c->phase == CONN_JOINING))
		result = -ECANCELED;
	if (result < 0) {
		c->send.result = result;
		c->send.progress_bytes = 0;
		conn_send_over(c);
		return;
	}
	advance(f, (uint64_t)result);
	fill(c, f);
}

/* A buffer's worth: what TLS itself has to say, then plain bytes. A long say leaves alone. */
static void next_buffer(struct net_private *c, struct tls_flight *f)
{
	struct slice said = tls_of(c) ? tls_pending(tls_of(c)) : slice_of(NULL, 0);
	size_t plain = said.len > TLS_PENDING_ALONG_BYTES ? 0 : plain_left(f, conn_zips(c) ? COMPRESS_PLAIN_BYTES_MAX : TLS_PLAIN_BYTES_MAX);
	size_t most = conn_zips(c) ? conn_zip_bound(plain) : plain;
	take_buffer(c, f, said.len + (!plain ? 0 : tls_of(c) ? tls_sealed_bytes_max(most) : most));
	if (said.len)
		memcpy(f->buf, said.ptr, said.len);
	if (tls_of(c))
		tls_pending_sent(tls_of(c));
	f->sealed = said.len;
	f->plain_want = plain;
	f->plain_len = 0;
	f->plain_at = f->cap - plain;
	fill(c, f);
}

void conn_tls_send(struct net_private *c)
{
	struct reply *r = &conn_session(c)->reply;
	enum tls_state state = tls_of(c) ? tls_state(tls_of(c)) : TLS_OPEN;
	bool seals = (state == TLS_OPEN || state == TLS_ENDED) && !reply_empty(r);
	if (!seals && !(tls_of(c) && tls_pending(tls_of(c)).len))
		return;
	struct tls_flight *f = pool_get(&c->shard->tls_flights);
	memset(f, 0, sizeof *f);
	f->conn = c;
	f->first = true;
	io_op_init(&f->read, part_read);
	if (seals) {
		struct reply_flight gathered = reply_gather(r, &c->shard->batches);
		c->batch = gathered.batch;
		f->pieces = gathered.pieces;
		f->count = gathered.count;
	}
	c->filter->flight = f;
	c->sending = true;
	next_buffer(c, f);
}

bool conn_tls_sent_part(struct net_private *c)
{
	struct tls_flight *f = c->filter->flight;
	give_buffer(c, f);
	bool more = plain_left(f, 1) > 0;
	if (c->send.result >= 0 && f->broken)
		c->send.result = -EPROTO;
	if (c->send.result >= 0 && more && (c->aborted || c->phase == CONN_JOINING))
		c->send.result = -ECANCELED;
	if (c->send.result >= 0 && more) {
		STAT_ADD(c->shard, bytes_out, (uint64_t)c->send.result);
		next_buffer(c, f);
		return true;
	}
	c->filter->flight = NULL;
	pool_put(&c->shard->tls_flights, f);
	return false;
}

void conn_tls_cancel(struct net_private *c)
{
	if (c->filter->flight)
		io_cancel(&c->filter->flight->read);
}

bool conn_tls_shut(struct net_private *c) { return tls_shut(tls_of(c)); }
