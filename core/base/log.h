/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one event, one line, for people and for machines.
 *
 *     log_event(LOG_INFO, "pop3.login", LOG_STR("user", name), LOG_U64("messages", n));
 *     time=2025-01-31T08:15:00.123Z level=info event=pop3.login user=ann@example.org messages=3
 *
 * Values are typed fields, never a format string, and every byte of them that is not plain printable ASCII leaves escaped,
 * so that nothing a client sends can end a line, forge a field or reach a terminal.  In the key=value form a value with
 * anything but harmless characters is quoted, with \" \\ \t \r \n and \xHH inside.  In the JSON form (one object a line)
 * UTF-8 becomes \uXXXX and a byte that is not UTF-8 becomes the four characters \xHH.  Keys and event names are literals
 * of ours.  By custom the session and the tenant come first.
 *
 * A line is built on the caller's stack (LOG_LINE_BYTES_MAX); a longer value ends in "...", and a field that finds no more
 * room is left out and the line ends with cut=1.  It goes to the sink in one call; the sink of the start is one write(2)
 * to standard error; log_ring.h is one that never blocks.  A line that the sink could not take is counted (log_dropped), never retried.
 *
 * Settings are process-wide.  Clock and sink are set before other threads run; level and form may be changed at any time.
 * Any thread may log.  log_event completes now; none of it fails.
 */
#ifndef PENFOLD_CORE_BASE_LOG_H
#define PENFOLD_CORE_BASE_LOG_H

#include "core/base/addr.h"
#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

/* By who should care: the developer, nobody, the operator some day, the operator today, the operator now. */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_ALARM, LOG_LEVEL_COUNT };
enum log_form { LOG_FORM_KEYS, LOG_FORM_JSON };

enum log_kind {
	LOG_KIND_END,
	LOG_KIND_NAME,
	LOG_KIND_STR,
	LOG_KIND_HEX,
	LOG_KIND_U64,
	LOG_KIND_I64,
	LOG_KIND_BOOL,
	LOG_KIND_ERRNO,
	LOG_KIND_ADDR
};
struct log_field {
	const char *key;
	enum log_kind kind;
	union {
		struct slice s;
		uint64_t u;
		int64_t i;
		const struct addr *addr;
	} v;
};

/* ---- fields; what they point at must live during the call ---- */
static inline struct log_field log_field_str(const char *key, enum log_kind kind, struct slice s)
{
	struct log_field f = { key, kind, { s } };
	return f;
}
static inline struct log_field log_field_u64(const char *key, enum log_kind kind, uint64_t u)
{
	struct log_field f = { key, kind, { { NULL, 0 } } };
	f.v.u = u;
	return f;
}
static inline struct log_field log_field_i64(const char *key, enum log_kind kind, int64_t i)
{
	struct log_field f = { key, kind, { { NULL, 0 } } };
	f.v.i = i;
	return f;
}
static inline struct log_field log_field_addr(const char *key, const struct addr *a)
{
	struct log_field f = { key, LOG_KIND_ADDR, { { NULL, 0 } } };
	f.v.addr = a;
	return f;
}
#define LOG_STR(key, slice) log_field_str(key, LOG_KIND_STR, slice)              /* any bytes, a client's too */
#define LOG_Z(key, zstring) log_field_str(key, LOG_KIND_STR, slice_str(zstring)) /* NULL = empty */
#define LOG_HEX(key, slice) log_field_str(key, LOG_KIND_HEX, slice) /* bytes as lower-case hex: GUIDs, hashes */
#define LOG_U64(key, number) log_field_u64(key, LOG_KIND_U64, number)
#define LOG_I64(key, number) log_field_i64(key, LOG_KIND_I64, number)
#define LOG_BOOL(key, truth) log_field_u64(key, LOG_KIND_BOOL, (truth) ? 1 : 0)
#define LOG_ERR(e) log_field_str("err", LOG_KIND_STR, slice_str(err_name(e)))
#define LOG_ERRNO(number) log_field_i64("errno", LOG_KIND_ERRNO, number) /* ENOENT; its sign does not matter */
#define LOG_ADDR(key, addr) log_field_addr(key, addr)                    /* struct addr * */
#define LOG_END log_field_str(NULL, LOG_KIND_END, slice_of(NULL, 0)) /* supplied by log_event; writing it is harmless */

/* The event's name is "room.what" and a literal; then fields, or none.  Fields are not evaluated below the level. */
/* clang-format off */
#define log_event(level, event, ...) (log_on(level) ? log_write(level, LOG_FIELDS(event, ##__VA_ARGS__)) : (void)0)
#define LOG_FIELDS(event, ...) \
	(const struct log_field[]){ log_field_str("event", LOG_KIND_NAME, SLICE_LIT(event)), ##__VA_ARGS__, LOG_END }
/* clang-format on */

bool log_on(enum log_level level);
/* Fields up to LOG_END; what log_event calls. */
void log_write(enum log_level level, const struct log_field *fields);
/* The line alone, LF included; for sinks. */
struct slice log_build(char out[LOG_LINE_BYTES_MAX], enum log_level level, const struct log_field *fields);

/* ---- settings ---- */
void log_set_level(enum log_level least);                           /* LOG_INFO at the start */
void log_set_form(enum log_form form);                              /* LOG_FORM_KEYS at the start */
bool log_level_parse(struct slice name, enum log_level *level_out); /* "debug" ... "alarm" */
const char *log_level_name(enum log_level level);
/* Wall time in milliseconds since 1970.  Without a clock (NULL, the start) lines bear no time: this floor knows none. */
void log_set_clock(int64_t (*wall_ms)(void));
/* Takes whole lines, LF included, from any thread; false = dropped.  NULL: back to write(2). */
void log_set_sink(bool (*sink)(void *arg, enum log_level level, struct slice line), void *arg);
void log_set_fd(int fd);    /* where the first sink writes; standard error at the start */
uint64_t log_dropped(void); /* lines lost since the start of the process */

/* The time form of the log, "2025-01-31T08:15:00.123Z": exactly LOG_TIME_BYTES, no NUL.  Years 0 to 9999; others are clamped. */
#define LOG_TIME_BYTES 24
void log_format_time(int64_t wall_ms, char out[LOG_TIME_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
