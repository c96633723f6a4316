/* SPDX-License-Identifier: Apache-2.0 */
/* given.c - the service manager's side of a start: descriptors from 3 on, and their names. */
#include "net/given.h"

#include "core/base/limits.h"
#include "core/base/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_FD 3           /* SD_LISTEN_FDS_START */
#define NAMELESS "unknown"   /* as sd_listen_fds_with_names(3) calls those without a name */

/* Of the process: sockets are given once, at its start, and taken by the main thread. */
static struct {
	unsigned count;
	char *names; /* as it was in the environment; slices below lie in it */
	struct {
		struct slice name;
		bool taken;
	} socket[GIVEN_SOCKETS_MAX];
} given;

static bool number_of(const char *variable, uint64_t max, uint64_t *out)
{
	const char *text = getenv(variable);
	return text && slice_u64(slice_str(text), max, out);
}

static void name_all(void)
{
	const char *names = getenv("LISTEN_FDNAMES");
	struct slice rest, name;
	given.names = names ? xstrdup(names) : NULL;
	rest = slice_str(given.names ? given.names : "");
	for (unsigned i = 0; i < given.count; i++)
		given.socket[i].name = slice_next(&rest, ':', &name) && name.len ? name : SLICE_LIT(NAMELESS);
}

void given_open(void)
{
	uint64_t pid, count;
	free(given.names);
	memset(&given, 0, sizeof given);
	if (number_of("LISTEN_PID", UINT32_MAX, &pid) && pid == (uint64_t)getpid() && number_of("LISTEN_FDS", GIVEN_SOCKETS_MAX, &count)) {
		given.count = (unsigned)count;
		name_all();
		for (unsigned i = 0; i < given.count; i++)
			(void)fcntl(FIRST_FD + (int)i, F_SETFD, FD_CLOEXEC);
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

int given_take(struct slice name)
{
	for (unsigned i = 0; i < given.count; i++)
		if (!given.socket[i].taken && slice_eq(given.socket[i].name, name)) {
			given.socket[i].taken = true;
			return FIRST_FD + (int)i;
		}
	return -1;
}

void given_close(void)
{
	for (unsigned i = 0; i < given.count; i++)
		if (!given.socket[i].taken) {
			log_event(LOG_WARN, "net.socket_unasked", LOG_STR("name", given.socket[i].name),
				  LOG_Z("hint", "no listener has the address systemd:NAME for it"));
			close(FIRST_FD + (int)i);
		}
	given.count = 0;
}
