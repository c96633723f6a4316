/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saslprep.h - one form for the spellings of a text (RFC 4013): what two keyboards send for the same password.
 *
 * For names and passwords of this room.  Libidn does the mapping, NFKC and the checks.  Text of printable ASCII is its own form and costs
 * a look at its bytes.  What has no form - not UTF-8, forbidden characters, a NUL, too long - stays what it is: it may still be
 * somebody's password, as bytes.
 */
#ifndef PENFOLD_TENANCY_SASLPREP_H
#define PENFOLD_TENANCY_SASLPREP_H

#include "core/base/bytes.h"
#include "core/base/limits.h"

struct saslprep {
	char bytes[SASLPREP_BYTES_MAX + 1];
};
/* The form, in `room` where it is another than the text; else the text itself. Now, CPU: microseconds. */
struct slice saslprep(struct slice text, struct saslprep *room);

#endif
