/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant_figure.h - what each tenant does, counted since the start, for people who look (metrics, status page).
 *
 * For the protocols, which count.  A count is an addition in a table of the calling shard: no lock, nothing shared.  A table has
 * TENANT_FIGURE_SLOTS places, taken in the order in which tenants are first seen there; whoever finds none is counted under "other", so the sum is always
 * right and nothing grows (invariant 7).  Readers get the tenants with the most sessions and deliveries, and the rest as one.
 *
 * These are figures for a look; what bills are made of must not be counted here: it starts at 0 with the process.
 */
#ifndef PENFOLD_TENANCY_TENANT_FIGURE_H
#define PENFOLD_TENANCY_TENANT_FIGURE_H

#include "core/base/bytes.h"
#include "core/base/limits.h"

enum tenant_count { TENANT_LOGINS, TENANT_TURNED_AWAY, TENANT_DELIVERIES, TENANT_DELIVERY_REFUSALS, TENANT_COUNTS };

/* On a shard; elsewhere it does nothing. `name` is copied. Now. */
void tenant_figure_add(uint64_t tenant_id, struct slice name, enum tenant_count what);

struct tenant_figure {
	uint64_t id;
	char name[ROSTER_NAME_BYTES_MAX]; /* cut if longer */
	uint64_t count[TENANT_COUNTS];
};
/* Any thread, now: at most TENANT_FIGURE_TOP, busiest first, then by id; what is left goes to *other_out. Returns how many. */
unsigned tenant_figures(struct tenant_figure out[TENANT_FIGURE_TOP], struct tenant_figure *other_out);

#endif
