/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.h - the one form of a name that the directory keeps and is asked for.
 *
 * For this room and the tools.  Domains become lower-case A-labels (IDNA 2008 with UTS 46 mapping, by libidn2) without a
 * final dot; local parts are folded in ASCII case only and are otherwise bytes (valid UTF-8, no controls).  Outputs are
 * written into the caller's array and returned as slices of it; nothing is kept, nothing else is allocated for ASCII.
 * All calls complete now.  ERR_SYNTAX: not such a name.
 */
#ifndef PENFOLD_TENANCY_NAME_H
#define PENFOLD_TENANCY_NAME_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"

/* Domain: LDH and underscore labels of 1 to 63, or what IDNA makes of UTF-8. */
enum err name_domain(struct slice in, char out[DOMAIN_BYTES_MAX], struct slice *name_out) MUST_USE;

/* Local part as asked for by a client: at most LOGIN_BYTES_MAX, because a subaddress may follow. */
enum err name_local(struct slice in, char out[LOGIN_BYTES_MAX], struct slice *name_out) MUST_USE;

/* As name_local, and fit to be an account's own: 1 to LOCAL_PART_BYTES_MAX bytes, no blank, '@', quote, comma or bracket. */
enum err name_account_local(struct slice in, char out[LOGIN_BYTES_MAX], struct slice *name_out) MUST_USE;

/* A tenant's: 1 to TENANT_BYTES_MAX of a-z 0-9 . _ -, beginning with a letter or digit; upper case is folded. */
enum err name_tenant(struct slice in, char out[TENANT_BYTES_MAX], struct slice *name_out) MUST_USE;

/* Removes the quotes and backslashes of an RFC 5321 quoted string; other local parts are copied as they are. `out` may be in.ptr. */
enum err name_unquote(struct slice in, char out[LOGIN_BYTES_MAX], struct slice *local_out) MUST_USE;

bool utf8_valid(struct slice s);

#endif
