/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sasl_gssapi.h - GSSAPI (RFC 4752) with Kerberos V5 by MIT's library: what a process needs for it.
 *
 * For net/server.  The key table holds the keys of pop/HOST (and, later, imap/HOST) under the names that clients know this
 * host by; it is read at each login, so that changed keys are used at once.  A principal user@REALM is the login user@REALM (realms
 * are domains, in any case); with `domain`, user@domain, for principals of `realm` only.  Principals with instances
 * (user/admin) are nobody here.  Security layer "none" is the only one: TLS is there for that.
 */
#ifndef PENFOLD_NET_SASL_GSSAPI_H
#define PENFOLD_NET_SASL_GSSAPI_H

#include "core/base/err.h"

#include <stdbool.h>

/* Strings live as long as the process. */
struct sasl_gssapi_config {
	const char *keytab, *where; /* keytab NULL: not offered */
	const char *realm;          /* others' principals are refused; NULL: any that the realm of the keys trusts */
	const char *domain;         /* with realm; or NULL */
};
/* Before the shards start. Blocking. ERR_CONFIG, logged: the key table cannot be used. */
enum err sasl_gssapi_open(const struct sasl_gssapi_config *config);
void sasl_gssapi_close(void);
bool sasl_gssapi_offered(void); /* now */

#endif
