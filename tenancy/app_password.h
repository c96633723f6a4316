/* SPDX-License-Identifier: Apache-2.0 */
/*
 * app_password.h - secrets for one device or program each, beside an account's own password.
 *
 * For the tools.  They are long and random, made here or by another machine, never by a person: so one fast hash keeps them
 * as well as a slow one would, and an account may have many without a wrong password costing a slow hash for each, which
 * would also tell by its time how many there are (invariant 11).
 */
#ifndef PENFOLD_TENANCY_APP_PASSWORD_H
#define PENFOLD_TENANCY_APP_PASSWORD_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"

/* Four groups of six letters and digits of base32, 120 bits, between hyphens; NUL-terminated. ERR_IO: the kernel gives no random bytes. Blocking. */
#define APP_SECRET_TEXT_BYTES (APP_SECRET_BYTES + 4)
enum err app_password_make(char out[APP_SECRET_TEXT_BYTES]);
/* ERR_SYNTAX: shorter than APP_SECRET_BYTES_MIN, or no password at all. Blocking, CPU. */
enum err app_password_store(struct slice secret, char stored_out[STORED_PASSWORD_BYTES_MAX]);

#endif
