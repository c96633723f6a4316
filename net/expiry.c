/* SPDX-License-Identifier: Apache-2.0 */
/* expiry.c - see expiry.h. */
#include "net/expiry.h"

#include "core/base/bytes.h"
#include "core/base/hash.h"
#include "core/base/log.h"

#include <string.h>

#define DAY_S 86400

void expiry_init(struct expiry *x, uint32_t warn_days)
{
	memset(x, 0, sizeof *x);
	x->warn_s = (int64_t)warn_days * DAY_S;
}

/* False if it has been told today, or there is no room to remember that it was. */
static bool remember(struct expiry *x, uint64_t id)
{
	for (unsigned i = 0; i < x->told; i++)
		if (x->seen[i] == id)
			return false;
	if (x->told == TLS_EXPIRY_TOLD_MAX) {
		if (!x->more_told)
			log_event(LOG_WARN, "tls.more_certificates_expire", LOG_U64("told_today", x->told));
		x->more_told = true;
		return false;
	}
	x->seen[x->told++] = id;
	return true;
}

static void tell(const char *path, int64_t expires_s, int64_t now_s)
{
	if (expires_s <= now_s)
		log_event(LOG_ERROR, "tls.certificate_expired", LOG_Z("certificate", path), LOG_I64("expires_s", expires_s));
	else
		log_event(LOG_WARN, "tls.certificate_expires", LOG_Z("certificate", path), LOG_I64("expires_s", expires_s),
			  LOG_I64("days_left", (expires_s - now_s) / DAY_S));
}

enum expiry_is expiry_look(struct expiry *x, int64_t *asked_day_io, const char *path, int64_t expires_s, int64_t now_s)
{
	int64_t day = now_s / DAY_S;
	if (!x->warn_s || expires_s - now_s > x->warn_s)
		return EXPIRY_FAR;
	if (*asked_day_io == day)
		return EXPIRY_NEAR;
	*asked_day_io = day;
	if (x->day != day) {
		x->day = day;
		x->told = 0;
		x->more_told = false;
	}
	if (!remember(x, hash64(slice_str(path), (uint64_t)expires_s)))
		return EXPIRY_NEAR;
	tell(path, expires_s, now_s);
	return EXPIRY_TOLD;
}
