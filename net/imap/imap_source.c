/* SPDX-License-Identifier: Apache-2.0 */
/* imap_source.c - see imap_source.h. */
#include "net/imap/imap_source.h"

#include "core/base/base.h"
#include "core/base/limits.h"
#include "core/run/file.h"

#include <stdlib.h>

enum err imap_source_open(struct view *view, uint32_t index, bool bytes, struct imap_source **source_out)
{
	struct imap_source *s = xcalloc(1, sizeof *s);
	enum err e = bytes ? message_open(view, index, &s->m) : message_look(view, index, &s->m);
	if (e != OK) {
		free(s);
		return e;
	}
	s->view = view;
	s->index = index;
	s->references = 1;
	*source_out = s;
	return OK;
}

void imap_source_unref(void *arg)
{
	struct imap_source *s = arg;
	ASSERT(s->references > 0);
	if (--s->references)
		return;
	message_close(&s->m);
	structure_close(s->structure);
	free(s->header);
	free(s);
}

enum err imap_source_bytes(struct imap_source *s) { return message_fill(s->view, s->index, &s->m); }

void imap_source_known(struct imap_source *s)
{
	if (!s->structure)
		s->structure = structure_known(&s->m);
}

enum err imap_source_structure(struct imap_source *s)
{
	enum err e;
	imap_source_known(s);
	if (s->structure)
		return OK;
	e = imap_source_bytes(s);
	return e == OK ? structure_open(&s->m, &s->structure) : e;
}

enum err imap_source_read(const struct imap_source *s, uint64_t at, char *out, size_t bytes)
{
	if (s->m.body)
		memcpy(out, s->m.body + at, bytes);
	else if (bytes && file_read(s->m.fd, out, bytes, s->m.offset + at) != (int64_t)bytes)
		return ERR_IO;
	return OK;
}

enum err imap_source_header(struct imap_source *s)
{
	enum err e = s->header ? OK : imap_source_bytes(s);
	if (s->header || e != OK)
		return e;
	size_t prefix = s->m.prefix.len, bytes = (size_t)min_u64(min_u64(s->m.header_bytes, s->m.bytes), IMAP_HEADER_BYTES_MAX);
	char *header = xmalloc(prefix + bytes + 1);
	if (prefix)
		memcpy(header, s->m.prefix.ptr, prefix);
	e = imap_source_read(s, 0, header + prefix, bytes);
	if (e != OK) {
		free(header);
		return e;
	}
	s->header = header;
	s->header_bytes = prefix + bytes;
	return OK;
}
