/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_gather.c - lines and literals become one command, wherever the network cut them.
 *
 * A line that ends in a literal is not the end of its command: its octets follow, then another line.  They are gathered in one text, in
 * which literals lie where they stood, up to IMAP_COMMAND_BYTES_MAX (before login IMAP_LOGIN_BYTES_MAX): invariant 7.  A literal
 * that would lead above it is refused before it is sent, if the client waits (RFC 9051 section 4.3); else it is swallowed to stay in step,
 * and one that is too large for that ends the session.  A message on its way in (APPEND) is never gathered: imap_append_literal says
 * so and takes its octets as they come.
 */
#include "net/imap/imap_private.h"

#include <stdlib.h>

bool imap_literal_at_end(struct slice line, struct imap_literal *out)
{
	size_t open = slice_rfind(line, '{');
	if (open == SIZE_MAX || line.ptr[line.len - 1] != '}')
		return false;
	struct slice inside = slice_of(line.ptr + open + 1, line.len - open - 2);
	out->sync = !(inside.len && inside.ptr[inside.len - 1] == '+');
	if (!out->sync)
		inside.len--;
	if (!inside.len)
		return false;
	for (size_t i = 0; i < inside.len; i++)
		if (inside.ptr[i] < '0' || inside.ptr[i] > '9')
			return false;
	if (!slice_u64(inside, UINT64_MAX, &out->bytes))
		out->bytes = UINT64_MAX;
	out->binary = open && line.ptr[open - 1] == '~';
	out->begin = open - out->binary;
	return true;
}

/* ---- the life of a command ---- */

struct imap_command *imap_command_begin(struct imap_session *p)
{
	struct imap_command *c = xcalloc(1, sizeof *c);
	arena_init(&c->arena, IMAP_COMMAND_ARENA_BYTES_MAX);
	buf_init(&c->text, IMAP_COMMAND_BYTES_MAX);
	c->tag = SLICE_LIT("*");
	p->cmd = c;
	return c;
}

void imap_command_free(struct imap_session *p)
{
	struct imap_command *c = p->cmd;
	if (!c)
		return;
	if (c->drop)
		c->drop(p);
	p->cmd = NULL;
	imap_update_release(&c->update);
	buf_release(&c->text);
	arena_release(&c->arena);
	free(c);
}

/* ---- literals ---- */

static size_t bytes_max(const struct imap_session *p)
{
	return p->state == IMAP_NOT_AUTHENTICATED ? IMAP_LOGIN_BYTES_MAX : IMAP_COMMAND_BYTES_MAX;
}

static enum step too_large_literal(struct imap_session *p, const struct imap_literal *literal)
{
	struct imap_command *c = p->cmd;
	if (literal->sync) { /* refused: the client sends none of it */
		imap_read_verb(c);
		return imap_end_with(p, IMAP_S_BAD, "TOOBIG", "the literal is too large");
	}
	if (literal->bytes > IMAP_SWALLOW_BYTES_MAX) {
		REPLY_LIT(&p->s.reply, "* BYE [TOOBIG] the literal is far too large\r\n");
		return STEP_CLOSE;
	}
	c->too_large = true;
	c->gathering = IMAP_SWALLOWED;
	c->literal_left = literal->bytes;
	return literal->bytes ? STEP_DATA : STEP_NEXT;
}

static enum step begin_literal(struct imap_session *p, const struct imap_literal *literal)
{
	struct imap_command *c = p->cmd;
	enum step step;
	if (!c->too_large && imap_append_literal(p, literal, &step))
		return step;
	if (c->too_large || literal->bytes > bytes_max(p) || c->text.len + literal->bytes > bytes_max(p))
		return too_large_literal(p, literal);
	c->gathering = IMAP_GATHERED;
	c->literal_left = literal->bytes;
	if (literal->sync)
		REPLY_LIT(&p->s.reply, "+ OK\r\n");
	return literal->bytes ? STEP_DATA : STEP_NEXT;
}

enum step imap_data(struct imap_session *p, struct slice bytes, size_t *used_out)
{
	struct imap_command *c = p->cmd;
	enum step step = STEP_DATA;
	ASSERT(c && c->literal_left);
	bytes = slice_upto(bytes, (size_t)min_u64(bytes.len, c->literal_left));
	*used_out = bytes.len;
	c->literal_left -= bytes.len;
	if (c->gathering == IMAP_STREAMED)
		step = c->data(p, bytes);
	else if (c->gathering == IMAP_GATHERED && !buf_put(&c->text, bytes.ptr, bytes.len))
		c->too_large = true; /* cannot be: it was measured before */
	if (step != STEP_DATA || !p->cmd || c->literal_left)
		return step;
	if (c->gathering == IMAP_STREAMED)
		return c->data_end(p);
	return STEP_NEXT;
}

/* ---- lines ---- */

static enum step whole(struct imap_session *p)
{
	struct imap_command *c = p->cmd;
	c->gathering = IMAP_WHOLE;
	if (!c->too_large)
		return imap_dispatch(p);
	imap_read_verb(c);
	return imap_end_with(p, IMAP_S_BAD, "TOOBIG", "the command is too long");
}

enum step imap_line(struct imap_session *p, struct slice line)
{
	struct imap_literal literal;
	if (p->idle_tag)
		return imap_idle_line(p, line);
	struct imap_command *c = p->cmd ? p->cmd : imap_command_begin(p);
	if (c->continued)
		return c->continued(p, line);
	if (c->gathering == IMAP_STREAMED && c->rest)
		return c->rest(p, line);
	bool more = imap_literal_at_end(line, &literal);
	if (!c->too_large && (c->text.len + line.len + 2 > bytes_max(p) || !buf_put(&c->text, line.ptr, line.len) ||
			      (more && !buf_put(&c->text, "\r\n", 2))))
		c->too_large = true;
	return more ? begin_literal(p, &literal) : whole(p);
}
