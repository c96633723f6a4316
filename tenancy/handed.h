/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handed.h - a subject in bytes: what a node that has authenticated somebody tells the account's owner.
 *
 * For net/fleet, whose header carries and authenticates these bytes; nobody logs in twice, and the owner asks no directory.  The form is ours,
 * little-endian, and begins with its version; nodes of one fleet may differ in version, so the reader refuses what it does not know, and the
 * session is then not proxied:
 *
 *     version 1 | flags 4 | account 8 | tenant 8 | quota bytes 8 | quota messages 8 | login delay 4 | expire days 4 | sessions 4 |
 *     tenant's sessions 4 | credential version 8 | xtnd 1 | separator 1 | sdps mode 1 | name, tenant, sdps user: length 2 and octets each
 *
 * All calls complete now.
 */
#ifndef PENFOLD_TENANCY_HANDED_H
#define PENFOLD_TENANCY_HANDED_H

#include "tenancy/directory.h"

/* Returns its length, or 0: it does not fit. */
size_t subject_pack(const struct subject *subject, char *to, size_t room);
/* ERR_SYNTAX: not that form, to the last octet. */
enum err subject_unpack(struct slice bytes, struct subject **subject_out);

#endif
