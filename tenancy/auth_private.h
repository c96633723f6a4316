/* SPDX-License-Identifier: Apache-2.0 */
/* auth_private.h - between auth.c and auth_proved.c. */
#ifndef PENFOLD_TENANCY_AUTH_PRIVATE_H
#define PENFOLD_TENANCY_AUTH_PRIVATE_H

#include "tenancy/auth.h"
#include "tenancy/directory_private.h"

/* Who is meant by a login, the request's own or its authzid; later. ERR_DENIED: its tenant wants TLS, and no proof is looked at. found_out is to be
 * released whatever comes out. */
enum err auth_find(const struct auth_request *request, struct slice login, struct login_found *found_out);
/* The proof was right: may they? Gives the subject. */
enum err auth_admit(const struct auth_request *request, const struct login_found *found, struct subject **subject_out);
/* It was not: counted, also to whose login it would have been, ERR_AUTH. */
enum err auth_refuse(const struct login_found *found);

/* The key file of bearer tokens. */
enum err auth_oauth_open(const struct auth_oauth *oauth);
void auth_oauth_close(void);

#endif
