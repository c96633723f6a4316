/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fence.h - at most one process can have an account's writes acknowledged, by the store alone (invariant 4).
 *
 * For the room only.  Any process may believe at any moment that it owns an account; the rules below make that harmless.  They
 * are those of tests/model/fence.pml, which searched them with pauses of any length between any two steps, crashes and
 * power failures.  Each is named in the code where it is kept.
 *
 *   F1  list the directory; n is the highest number of any L.<n>, be it log, stub or empty
 *   F2  create L.<n+1> with O_EXCL; it is there already: let go
 *   F3  sync the directory
 *   F4  list again: the own name must be the highest, else let go and write nothing
 *   F5  then open each older log afresh, highest first; read it to the end of its last whole commit, unless a newer whole cut
 *       says where it ends; sync it.  Not there: it was a stub and was unlinked.  A stub ends at 0.
 *   F6  the first commit of the own log is the cut: the ends of all older logs.  A log without a whole cut is a fence and
 *       nothing else; bytes behind a cut are never read.
 *   F7  replay from the descriptors that gave the ends, or look again before anything is shown
 *   F8  every commit, the cut first, is: write, sync, then look.  The look, in this order: does L.<own+1> exist (a stub
 *       counts); has the own file lost its name (on a shared store also: does its name lead to another file).  Either, or
 *       trouble in finding out: let go.
 *   F9  but for flags, which are synced within a second, nothing is acknowledged, shown to a session, renamed over or unlinked
 *       before its commit has passed the look.  Flags look before they show, and again after their sync.
 *   F10 nobody appends to a log that its process did not create
 *   F11 a session that only reads a sealed account makes no log: it reads, then looks (as if it owned the newest)
 *   F12 a stub takes a log's name only after the relocation's look, and counts only after the directory was synced;
 *       stubs are unlinked lowest first (compact.c)
 *
 * Why it works: what an older owner acknowledged was synced before he looked, and he looked before the newer name was there; the
 * newer owner made the name before he read.  So whatever was acknowledged lies below the cut.
 *
 * All names are below the directory's descriptor.  Everything here completes later.
 */
#ifndef PENFOLD_STORAGE_FENCE_H
#define PENFOLD_STORAGE_FENCE_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "storage/format.h"

/* What a listing found: numbers of logs, ascending. */
struct fence_names {
	uint32_t *logs;
	uint32_t count, cap;
	uint32_t newest; /* 0: none */
	bool bodies;     /* there are B files */
	bool too_many;   /* more than LOGS_MAX */
};
/* F1. ERR_IO, ERR_CORRUPT (too many logs). Release in any case. */
enum err fence_list(int dir_fd, struct fence_names *names_out);
void fence_names_release(struct fence_names *names);

/* F2 to F4. ERR_FENCED: somebody else was there; nothing was written. ERR_FULL, ERR_IO. The descriptor is the
 * caller's to close. */
enum err fence_make(int dir_fd, uint32_t number, int *fd_out);

/* F6: what the cut says, and who says it. */
struct fence_cut {
	uint64_t account_id, salt, sequence, take;
	const uint8_t *incarnation; /* 16 bytes */
	int64_t wall_ms;
	uint32_t flags; /* CUT_... */
	uint32_t count;
	const struct cut_end *ends; /* newest first */
	struct slice more;          /* whole records to go with it (INBOX of a new account), or empty */
};
/* Writes and syncs the first commit of log `number`, then looks. *header_out and `heads` (initialised, emptied) are
 * as written. ERR_FENCED, ERR_FULL, ERR_IO: let go of the log. */
enum err fence_cut(int dir_fd, int fd, uint32_t number, const struct fence_cut *cut, struct buf *heads,
		   struct commit_header *header_out);

/* F8. OK or ERR_FENCED. `next_name` is the name after the own one; it and `own_name` are names of logs. */
enum err fence_look(int dir_fd, int fd, const char *own_name, const char *next_name);

#endif
