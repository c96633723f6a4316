/* SPDX-License-Identifier: Apache-2.0 */
/*
 * why.h - what was decided lately about a login or an address, as JSON for the admin socket's "why WHO".
 *
 * For admin.c.  The decisions come from tenancy/decision.h: who was let in, who was delayed or refused, and by which limit or reason.
 * Bytes that clients sent are made valid UTF-8 on the way.
 */
#ifndef PENFOLD_NET_SERVER_WHY_H
#define PENFOLD_NET_SERVER_WHY_H

#include "core/base/bytes.h"

#include <jansson.h>

/* { "who", "decisions": [ newest first ] }. The caller frees. */
json_t *why_json(struct slice who);

#endif
