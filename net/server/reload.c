/* SPDX-License-Identifier: Apache-2.0 */
/* reload.c - see reload.h. */
#include "net/server/reload.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/run/shard.h"

static struct {
	const struct config *running;
	void (*apply)(void *arg, const struct config *fresh);
	void *arg;
	bool busy; /* shard 0's */
} reload;

/* Lives in the caller's frame: offload_call returns when the job is over, or was never begun. */
struct attempt {
	struct config *fresh;
	char error[512];
	enum err e;
	json_t *answer;
};

void reload_configure(const struct config *running, void (*apply)(void *arg, const struct config *fresh), void *arg)
{
	reload.running = running;
	reload.apply = apply;
	reload.arg = arg;
}

static void load_job(void *arg)
{
	struct attempt *a = arg;
	a->e = config_load(reload.running->path, &a->fresh, a->error, sizeof a->error);
}

static json_t *refusal(const char *code, const char *words)
{
	log_event(LOG_ERROR, "server.reload_refused", LOG_Z("reason", words));
	json_t *o = json_pack("{s:s, s:s}", "code", code, "error", words);
	return o ? o : json_pack("{s:s, s:s}", "code", code, "error", "the file is not as expected; the log says where");
}

static void add_name(void *arg, const char *name) { json_array_append_new(arg, json_string(name)); }

static json_t *take(const struct config *fresh)
{
	json_t *restart = json_array();
	struct buf names;
	size_t i;
	json_t *name;
	config_restart_names(reload.running, fresh, add_name, restart);
	reload.apply(reload.arg, fresh);
	buf_init(&names, KIB(16));
	json_array_foreach(restart, i, name)
		buf_printf(&names, "%s%s", i ? ", " : "", json_string_value(name));
	log_event(LOG_INFO, "server.reloaded", LOG_Z("changed", "log, certificates, limits"), LOG_STR("need_restart", buf_slice(&names)));
	buf_release(&names);
	return json_pack("{s:[s,s,s], s:o}", "reloaded", "log", "certificates", "limits", "restart", restart);
}

/* On shard 0, so that no two overlap unseen. */
static void attempt_here(void *arg)
{
	struct attempt *a = arg;
	if (reload.busy) {
		a->answer = refusal("in_use", "a reload is under way");
		return;
	}
	reload.busy = true;
	enum err e = offload_call(load_job, a, RELOAD_MS_MAX);
	if (e != OK)
		a->answer = refusal(err_name(e), "the server is too busy to read the file now");
	else if (a->e != OK)
		a->answer = refusal(err_name(a->e), a->error);
	else
		a->answer = take(a->fresh);
	config_release(a->fresh);
	reload.busy = false;
}

json_t *reload_now(void)
{
	struct attempt a = { .e = OK };
	enum err e = shard_call(0, "reload", attempt_here, &a);
	return e == OK ? a.answer : refusal(err_name(e), "the server is too busy now");
}
