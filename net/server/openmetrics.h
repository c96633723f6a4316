/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openmetrics.h - a writer of OpenMetrics 1.0 text, and all of this server's figures in it.
 *
 * For http.c.  The form is OpenMetrics 1.0 (prometheus/OpenMetrics, specification/OpenMetrics.md): each family once, TYPE, UNIT and
 * HELP before its samples, a counter's sample ends in _total, a unit is the end of the family's name, "# EOF" last.  Histograms that are
 * kept in nanoseconds are written in seconds, in buckets that are powers of two.
 *
 * Reading sums relaxed cells and asks no shard anything, so a scrape never stops one.  Any thread; completes now; the text
 * belongs to the caller's buf.
 */
#ifndef PENFOLD_NET_SERVER_OPENMETRICS_H
#define PENFOLD_NET_SERVER_OPENMETRICS_H

#include "core/base/bytes.h"

enum om_kind { OM_COUNTER, OM_GAUGE, OM_INFO };

/* A family; `unit` "" or the end of the name. Samples follow. */
void om_family(struct buf *out, const char *name, enum om_kind kind, const char *unit, const char *help);
/* One sample; `labels` is "" or what om_label made, with commas between. */
void om_sample(struct buf *out, const char *name, enum om_kind kind, const char *labels, uint64_t value);
/* key="value", escaped. */
void om_label(struct buf *out, const char *key, struct slice value);

/* Everything, "# EOF" included. */
void openmetrics_write(struct buf *out);

#endif
