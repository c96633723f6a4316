/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expiry.h - certificates about to expire, told in the log once a day each.
 *
 * For certificates.c, whose look over the files, once a second, asks about each pair that is in memory; one look at a time.  What has been
 * told is remembered by file and date, so that a certificate which comes and goes in memory is not told again, and
 * is bounded: past TLS_EXPIRY_TOLD_MAX of a day one line says that there are more, and the gauge still counts all.  Completes now.
 */
#ifndef PENFOLD_NET_EXPIRY_H
#define PENFOLD_NET_EXPIRY_H

#include "core/base/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct expiry {
	int64_t warn_s; /* before the end; 0: never */
	int64_t day;    /* of what has been told */
	unsigned told;
	bool more_told;
	uint64_t seen[TLS_EXPIRY_TOLD_MAX];
};

enum expiry_is { EXPIRY_FAR, EXPIRY_NEAR, EXPIRY_TOLD };

void expiry_init(struct expiry *x, uint32_t warn_days);

/* The certificate in `path`, which is good until expires_s, as of now_s (wall time both). EXPIRY_TOLD: this call wrote the line; EXPIRY_NEAR: it is about to
 * expire, or has, and today's line has been written, or is one too many. `asked_day_io` is the pair's memory of the day it was last asked about
 * (0 at first, and after a swap), so that asking again costs nothing. */
enum expiry_is expiry_look(struct expiry *x, int64_t *asked_day_io, const char *path, int64_t expires_s, int64_t now_s);

#endif
