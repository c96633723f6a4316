/* SPDX-License-Identifier: Apache-2.0 */
/*
 * password.h - stored passwords, "{SCHEME}hash", as Dovecot, doveadm pw and passwd files write them.
 *
 * For this room, for the tools that set and import passwords, and for nobody else.  Knows
 *
 *   {CRYPT} {BLF-CRYPT} {SHA512-CRYPT} {SHA256-CRYPT} {MD5-CRYPT} {DES-CRYPT}, and bare $...$   everything crypt(3) does
 *   {ARGON2I} {ARGON2ID}                                                                          libargon2
 *   {SSHA} {SSHA256} {SSHA512} {SMD5} {SHA} {SHA256} {SHA512}, also with .HEX or .B64             digests of nettle
 *   {PBKDF2}                                                                                      $1$salt$rounds$hex
 *   {SCRAM-SHA-256} {SCRAM-SHA-1}                                                                 rounds,salt,StoredKey,ServerKey
 *   {PLAIN} {CLEAR} {CLEARTEXT}                                                                   where the tenant allows it
 *
 * A password is bytes: one with a NUL or longer than PASSWORD_BYTES_MAX matches no hash; nothing is cut short here and
 * then found equal (bcrypt itself looks at 72 bytes, traditional DES at 8).  What a hash may cost is bounded (limits.h): a stored one above that is refused at import and never
 * matches.  Comparison takes the same time wherever two values differ.
 *
 * password_matches and password_make burn CPU for milliseconds: offload jobs and tools only.
 */
#ifndef PENFOLD_TENANCY_PASSWORD_H
#define PENFOLD_TENANCY_PASSWORD_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"

/* Is this a stored password that we can check? OK, or ERR_SYNTAX (unknown or malformed), ERR_LIMIT (costs too much). *why_out is one
 * static phrase for the operator. The canonical scheme name ("SHA512-CRYPT") is written to *scheme_out when OK. Now. */
enum err password_check(struct slice stored, const char **scheme_out, const char **why_out);

/* Blocking, CPU. False too for what password_check refuses. */
bool password_matches(struct slice stored, struct slice password);

/* The secret itself when stored as {PLAIN}; false otherwise. Now. */
bool password_plain(struct slice stored, struct slice *secret_out);

/* What stands behind "{scheme}", if that is the scheme. Now. */
bool password_keys(struct slice stored, const char *scheme, struct slice *text_out);

/* Makes a stored password; NULL scheme = the default (yescrypt). The result is NUL-terminated. ERR_SYNTAX: unknown scheme, or none that
 * is made here; ERR_LIMIT: empty, too long, or holds a NUL, CR or LF. Blocking, CPU. */
enum err password_make(const char *scheme, struct slice password, char out[STORED_PASSWORD_BYTES_MAX]);

/* Schemes by canonical name, for help texts and settings: NULL at the end. */
const char *password_scheme_name(unsigned index);
bool password_scheme_known(struct slice name);

#endif
