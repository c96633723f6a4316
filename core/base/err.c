/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - the words for outcomes, and what an errno asks of the caller. */
#include "core/base/err.h"

#include <errno.h>

static const char *const names[] = {
	[OK] = "ok",
	[ERR_AGAIN] = "again",
	[ERR_CLOSED] = "closed",
	[ERR_TIMEOUT] = "timeout",
	[ERR_LIMIT] = "limit",
	[ERR_SYNTAX] = "syntax",
	[ERR_AUTH] = "auth",
	[ERR_DENIED] = "denied",
	[ERR_NOT_FOUND] = "not-found",
	[ERR_EXISTS] = "exists",
	[ERR_QUOTA] = "quota",
	[ERR_FULL] = "full",
	[ERR_IN_USE] = "in-use",
	[ERR_BUSY] = "busy",
	[ERR_IO] = "io",
	[ERR_CORRUPT] = "corrupt",
	[ERR_FENCED] = "fenced",
	[ERR_READONLY] = "readonly",
	[ERR_TEMP] = "temp",
	[ERR_CONFIG] = "config",
};
static_assert_c(ARRAY_LEN(names) == ERR_COUNT, "every outcome has a word");

const char *err_name(enum err e)
{
	ASSERT((unsigned)e < ERR_COUNT);
	return names[e];
}

enum err err_from_errno(int errno_value)
{
	switch (errno_value) {
	case 0:
		return OK;
	case EAGAIN:
	case EINTR:
	case EINPROGRESS:
	case EALREADY:
		return ERR_AGAIN;
	case EPIPE:
	case ECONNRESET:
	case ECONNABORTED:
	case ENOTCONN:
	case ESHUTDOWN:
	case ECANCELED: /* we cancelled it ourselves, because its owner is going */
		return ERR_CLOSED;
	case ETIMEDOUT:
	case ETIME:
		return ERR_TIMEOUT;
	case ENOENT:
		return ERR_NOT_FOUND;
	case EEXIST:
	case ENOTEMPTY:
		return ERR_EXISTS;
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	case EFBIG:
	case ENAMETOOLONG:
		return ERR_LIMIT;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case EROFS:
		return ERR_READONLY;
	case ESTALE: /* the file was replaced under its name on a shared store: somebody else owns it now */
		return ERR_FENCED;
	case EBUSY:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
		return ERR_BUSY;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
		return ERR_TEMP;
	case EADDRINUSE:
	case EADDRNOTAVAIL:
		return ERR_CONFIG;
	default:
		return ERR_IO;
	}
}
