/* SPDX-License-Identifier: Apache-2.0 */
/* upgrade_private.h - between upgrade.c and upgrade_inherit.c. */
#ifndef PENFOLD_NET_SERVER_UPGRADE_PRIVATE_H
#define PENFOLD_NET_SERVER_UPGRADE_PRIVATE_H

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "net/server/upgrade.h"

#define UPGRADE_VARIABLE "PENFOLD_UPGRADE_FD"
#define UPGRADE_READY "ready\n"

/* Which descriptors go along, and the text that says what they are. */
struct upgrade_parcel {
	struct buf text;
	int *fds;
	size_t count;
};
void upgrade_parcel_fill(struct upgrade_parcel *p, int http_fd);
void upgrade_parcel_add(struct upgrade_parcel *p, int fd);
void upgrade_parcel_release(struct upgrade_parcel *p);

int upgrade_control_fd(void); /* to the older; -1: there is none */

#endif
