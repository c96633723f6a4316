/* SPDX-License-Identifier: Apache-2.0 */
/* driver: the list of scenarios; see driver.h. */
#include "bench/load/driver.h"

#include <string.h>

static const struct driver *const drivers[] = {
	&driver_pop3_login, &driver_pop3_check, &driver_pop3_fetch,
	&driver_pop3_retr,  &driver_pop3_idle,  &driver_lmtp,
	&driver_imap_login, &driver_imap_check, &driver_imap_fetch, &driver_imap_idle,
};

const struct driver *driver_find(const char *name)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		if (strcmp(drivers[i]->name, name) == 0)
			return drivers[i];
	}
	return NULL;
}
