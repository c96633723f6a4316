/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - the server at a glance: one JSON object, and the page that shows it.
 *
 * For http.c.  The page shows what the JSON says and nothing else.  It has no script and loads nothing; it asks the browser to load it again
 * every STATUS_REFRESH_S.  Whatever strangers chose (names, addresses) is escaped.  Rates are of the time since the last look that
 * is STATUS_RATE_S_MIN old or older, whoever looked; at the first look there are none.
 *
 * Like a scrape it sums relaxed cells and asks no shard anything.  For the thread of http.c only; completes now.
 */
#ifndef PENFOLD_NET_SERVER_STATUS_H
#define PENFOLD_NET_SERVER_STATUS_H

#include "core/base/bytes.h"

#include <jansson.h>

/* The caller's. */
json_t *status_json(void);
void status_page_write(struct buf *out);
/* Once, before http_open; the name is kept. */
void status_configure(const char *node);

#endif
