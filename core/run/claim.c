/* SPDX-License-Identifier: Apache-2.0 */
/* claim.c - see claim.h. */
#include "core/run/claim.h"

#include <errno.h>
#include <fcntl.h>

/* An offset has 63 bits: two numbers may share a byte, and then exclude each other once in a blue moon. `bytes` 0: to the end. */
static int set(int fd, short type, uint64_t number, off_t bytes)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)(number & (INT64_MAX >> 1)), .l_len = bytes };
	return fcntl(fd, F_OFD_SETLK, &l) == 0 ? 0 : errno == EACCES ? -EAGAIN : -errno;
}

int claim_take(int fd, uint64_t number) { return set(fd, F_WRLCK, number, 1); }
void claim_give(int fd, uint64_t number) { (void)set(fd, F_UNLCK, number, 1); }
void claim_give_all(int fd) { (void)set(fd, F_UNLCK, 0, 0); }
