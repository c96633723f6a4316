/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_structure.h - ENVELOPE and BODYSTRUCTURE (RFC 9051 section 7.5.2) as text, made from the tree of a message's parts, and the way
 * from a part's number ("2.1") to the part.  For FETCH; knows nothing of sessions, so that tests and fuzz targets can call it.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_STRUCTURE_H
#define PENFOLD_NET_IMAP_IMAP_STRUCTURE_H

#include "core/base/bytes.h"
#include "storage/mime.h"

/* Appends to `out`; ERR_LIMIT above its maximum, or when a field has more in it than the scratch arena holds. `utf8`: 8-bit text may be quoted. */
enum err imap_put_envelope(struct buf *out, struct arena *scratch, struct slice fields, bool utf8);
/* A string: quoted, or else a literal. ERR_LIMIT. */
enum err imap_put_text(struct buf *out, struct slice text, bool utf8);
/* BODY (extended false) and BODYSTRUCTURE. */
enum err imap_put_structure(struct buf *out, struct arena *scratch, const struct mime_tree *tree, bool extended, bool utf8);
/* The part that numbers lead to: RFC 9051 section 6.4.5.1. NULL: none. */
const struct mime_part *imap_find_part(const struct mime_tree *tree, const uint32_t *numbers, size_t count);

#endif
