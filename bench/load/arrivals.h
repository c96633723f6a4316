/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrivals: when a stream's operations are meant to start, and those that wait.
 *
 * The times come from a Poisson process of some rate or from a file, never from
 * the server: they do not depend on how it keeps up. What is due and finds no
 * place waits in a queue that grows as it must (8 octets each), so that a
 * stall neither loses arrivals nor moves them.
 *
 * Embedded; arrivals_open() ends the program where the file cannot be read or
 * memory ends. All calls complete now.
 */
#ifndef BENCH_LOAD_ARRIVALS_H
#define BENCH_LOAD_ARRIVALS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define NEVER UINT64_MAX

struct arrivals {
	uint64_t next_ns;  /* the next one; NEVER: no more */
	uint64_t drawn;    /* how many have been due */
	uint64_t random;
	FILE *file;        /* of times; NULL: Poisson, or none */
	uint64_t *at;      /* waiting: a ring of intended times */
	size_t cap;
	size_t head;
	size_t waiting;
};

struct options;

/* A stream without arrivals has none: next_ns stays NEVER. */
void arrivals_open(struct arrivals *a, const struct options *o, uint64_t random);

/* From `origin_ns` on, that is the zero of a file's times. */
void arrivals_begin(struct arrivals *a, const struct options *o, uint64_t origin_ns);

/* Puts the one at next_ns into the queue and draws the one after it. */
void arrivals_due(struct arrivals *a, const struct options *o, uint64_t origin_ns);

/* Takes the one that has waited longest; there must be one. */
uint64_t arrivals_take(struct arrivals *a);

#endif
