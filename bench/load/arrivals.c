/* SPDX-License-Identifier: Apache-2.0 */
/* arrivals: see arrivals.h. */
#include "bench/load/arrivals.h"

#include <err.h>
#include <math.h>
#include <stdlib.h>

#include "bench/load/clock.h"
#include "bench/load/options.h"

#define FILE_SECONDS_MAX 1e7

void arrivals_open(struct arrivals *a, const struct options *o, uint64_t random)
{
	*a = (struct arrivals){.next_ns = NEVER, .random = random};
	if (o->arrivals && !(a->file = fopen(o->arrivals, "re")))
		err(2, "--arrivals %s", o->arrivals);
}

static uint64_t draw(struct arrivals *a, const struct options *o, uint64_t origin_ns, uint64_t last_ns)
{
	double seconds;

	if (o->count && a->drawn >= o->count)
		return NEVER;
	if (!o->arrivals)
		return o->rate > 0 ? last_ns + (uint64_t)(-log(random_share(&a->random)) / o->rate * 1e9) : NEVER;
	if (fscanf(a->file, "%lf", &seconds) != 1 || !(seconds >= 0 && seconds < FILE_SECONDS_MAX))
		return NEVER;
	return origin_ns + (uint64_t)(seconds * 1e9);
}

void arrivals_begin(struct arrivals *a, const struct options *o, uint64_t origin_ns)
{
	a->next_ns = draw(a, o, origin_ns, origin_ns);
}

static void grow(struct arrivals *a)
{
	size_t cap = a->cap ? 2 * a->cap : 1024;
	uint64_t *at = malloc(cap * sizeof(*at));

	if (!at)
		err(2, "%zu arrivals waiting", cap);
	for (size_t i = 0; i < a->waiting; i++)
		at[i] = a->at[(a->head + i) % a->cap];
	free(a->at);
	a->at = at;
	a->cap = cap;
	a->head = 0;
}

void arrivals_due(struct arrivals *a, const struct options *o, uint64_t origin_ns)
{
	uint64_t now_due = a->next_ns;

	if (a->waiting == a->cap)
		grow(a);
	a->at[(a->head + a->waiting++) % a->cap] = now_due;
	a->drawn++;
	a->next_ns = draw(a, o, origin_ns, now_due);
}

uint64_t arrivals_take(struct arrivals *a)
{
	uint64_t at = a->at[a->head];

	a->head = (a->head + 1) % a->cap;
	a->waiting--;
	return at;
}
