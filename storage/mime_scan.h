/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_scan.h - the words that structured fields are made of, for the mime_*.c files only.
 *
 * Blanks, comments and quoted strings are read here and nowhere else, so that addresses, parameters and dates agree on them.
 * Any bytes are taken: what is not closed ends with the bytes.  Everything completes now; memory is the caller's arena.
 */
#ifndef PENFOLD_STORAGE_MIME_SCAN_H
#define PENFOLD_STORAGE_MIME_SCAN_H

#include "storage/mime.h"

static inline bool mime_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

void mime_skip(struct slice *s); /* blanks and comments */
/* A quoted string at the beginning: its content in the arena, *s behind it; an unterminated one ends with the bytes. ERR_LIMIT. */
enum err mime_quoted(struct arena *arena, struct slice *s, struct slice *out);

#endif
