/* SPDX-License-Identifier: Apache-2.0 */
/* cli_args.c - see cli_args.h. */
#include "net/server/cli_args.h"

#include "tenancy/name.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

/* ---- options ---- */

/* 1: taken, 2: with the next word as its value, 0: not this one, -1: its value is missing. */
static int take_one(const struct cli_option *o, const char *word, const char *next)
{
	size_t len = strlen(o->name);
	if (strncmp(word, o->name, len) != 0)
		return 0;
	if (o->flag_out && !word[len]) {
		*o->flag_out = true;
		return 1;
	}
	if (o->value_out && word[len] == '=') {
		*o->value_out = word + len + 1;
		return 1;
	}
	if (!o->value_out || word[len])
		return 0;
	if (!next)
		return -1;
	*o->value_out = next;
	return 2;
}

bool cli_take(const char *verb, const struct cli_option *options, int *argc_io, char **argv, int least, int most)
{
	int kept = 0;
	bool only_words = false;
	for (int i = 0; i < *argc_io; i++) {
		int taken = 0;
		if (!only_words && !strcmp(argv[i], "--")) {
			only_words = true;
			continue;
		}
		for (const struct cli_option *o = options; !only_words && o->name && !taken; o++)
			taken = take_one(o, argv[i], i + 1 < *argc_io ? argv[i + 1] : NULL);
		if (taken < 0) {
			cli_misuse(verb, "%s needs a value", argv[i]);
			return false;
		}
		if (!taken && !only_words && argv[i][0] == '-' && argv[i][1]) {
			cli_misuse(verb, "there is no option %s", argv[i]);
			return false;
		}
		if (!taken)
			argv[kept++] = argv[i];
		else
			i += taken - 1;
	}
	*argc_io = kept;
	if (kept < least) {
		cli_misuse(verb, least == 1 ? "an argument is missing" : "%d arguments are expected", least);
		return false;
	}
	if (kept > most) {
		cli_misuse(verb, "\"%s\" is not expected", argv[most]);
		return false;
	}
	return true;
}

/* ---- the directory ---- */

static int status_of(enum err e)
{
	switch (e) {
	case OK:
		return CLI_OK;
	case ERR_NOT_FOUND:
		return CLI_NOT_FOUND;
	case ERR_SYNTAX:
	case ERR_CONFIG:
		return CLI_USAGE;
	default:
		return CLI_FAILED;
	}
}

/*
 * Root leaves nothing of its own in the data folder, or the server could not open it after giving root up: a new folder is
 * given to the configuration's `user`, and from then on this program is whoever owns the folder.
 */
static bool become_owner(struct cli *cli, const char *data)
{
	struct stat st;
	if (geteuid() != 0)
		return true;
	const char *user = cli->config ? cli->config->user : NULL;
	const struct passwd *pw = user ? getpwnam(user) : NULL;
	if (user && !pw) {
		cli_fail(CLI_USAGE, "%s: user: there is no user \"%s\"", cli->config_path, user);
		return false;
	}
	bool made = mkdir(data, 0700) == 0;
	if ((made && pw && chown(data, pw->pw_uid, pw->pw_gid)) || stat(data, &st)) {
		cli_fail(CLI_USAGE, "%s: %s", data, strerror(errno));
		return false;
	}
	if (st.st_uid == 0)
		return true;
	if (setgroups(0, NULL) || setresgid(st.st_gid, st.st_gid, st.st_gid) || setresuid(st.st_uid, st.st_uid, st.st_uid)) {
		cli_fail(CLI_FAILED, "cannot act as the owner of %s: %s", data, strerror(errno));
		return false;
	}
	return true;
}

struct manage *cli_manage(struct cli *cli, int *status_out)
{
	char why[MANAGE_WHY_BYTES];
	struct manage *m = NULL;
	const char *data = cli_data(cli);
	*status_out = CLI_USAGE;
	if (!data || !become_owner(cli, data))
		return NULL;
	enum err e = manage_open(data, &m, why);
	if (e) {
		*status_out = status_of(e) == CLI_NOT_FOUND ? CLI_FAILED : status_of(e);
		cli_fail(*status_out, "%s", why);
	}
	return m;
}

int cli_outcome(const struct manage *m, enum err e)
{
	return e ? cli_fail(status_of(e), "%s", manage_why(m)) : CLI_OK;
}

bool cli_setting(const char *verb, const char *word, enum setting_id *id_out, struct setting_value *value_out)
{
	struct slice text = slice_str(word);
	size_t equals = slice_find(text, '=');
	if (equals == SIZE_MAX) {
		cli_misuse(verb, "\"%s\" is not of the form setting=value", word);
		return false;
	}
	if (!setting_find(slice_upto(text, equals), id_out)) {
		cli_misuse(verb, "there is no setting \"%.*s\"", (int)equals, word);
		return false;
	}
	if (setting_parse(*id_out, slice_from(text, equals + 1), value_out)) {
		cli_misuse(verb, "%s is %s; got \"%s\"", setting_get(*id_out)->name, setting_expected(setting_get(*id_out)->kind), word + equals + 1);
		return false;
	}
	return true;
}

/* ---- passwords ---- */

/* One line without its end; false at the end of the input or when it is too long. */
static bool read_line(FILE *from, char *out, size_t bytes, size_t *len_out)
{
	size_t len = 0;
	int c;
	while ((c = getc(from)) != EOF && c != '\n') {
		if (len + 1 >= bytes)
			return false;
		out[len++] = (char)c;
	}
	if (len && out[len - 1] == '\r')
		len--;
	*len_out = len;
	return len > 0 || c == '\n';
}

static bool ask(FILE *terminal, const char *prompt, char *out, size_t bytes, size_t *len_out)
{
	struct termios before, silent;
	int fd = fileno(terminal);
	if (tcgetattr(fd, &before))
		return false;
	silent = before;
	silent.c_lflag &= (tcflag_t)~ECHO;
	if (tcsetattr(fd, TCSAFLUSH, &silent)) /* before the prompt: what is typed at it is neither shown nor thrown away */
		return false;
	fprintf(stderr, "%s", prompt);
	bool read = read_line(terminal, out, bytes, len_out);
	tcsetattr(fd, TCSADRAIN, &before);
	fputc('\n', stderr);
	return read;
}

bool cli_password(const char *verb, bool from_stdin, char out[PASSWORD_BYTES_MAX + 2], struct slice *password_out)
{
	size_t len = 0, again_len = 0;
	char again[PASSWORD_BYTES_MAX + 2];
	if (from_stdin) {
		if (!read_line(stdin, out, PASSWORD_BYTES_MAX + 2, &len) || len == 0) {
			cli_fail(CLI_FAILED, "standard input holds no password, or one of more than %zu bytes", PASSWORD_BYTES_MAX);
			return false;
		}
	} else if (!isatty(STDIN_FILENO)) {
		cli_misuse(verb, "there is no terminal to ask for a password; --password-stdin reads it from standard input");
		return false;
	} else {
		if (!ask(stdin, "New password: ", out, PASSWORD_BYTES_MAX + 2, &len) || len == 0 ||
		    !ask(stdin, "Once more: ", again, sizeof(again), &again_len)) {
			cli_fail(CLI_FAILED, "no password was given");
			return false;
		}
		bool same = slice_eq(slice_of(out, len), slice_of(again, again_len));
		explicit_bzero(again, sizeof(again));
		if (!same) {
			cli_fail(CLI_FAILED, "the two passwords differ");
			return false;
		}
	}
	*password_out = slice_of(out, len);
	return true;
}

bool cli_password_more(bool from_stdin, char out[PASSWORD_BYTES_MAX + 2], struct slice *password_out)
{
	size_t len = 0;
	bool read = from_stdin ? read_line(stdin, out, PASSWORD_BYTES_MAX + 2, &len)
			       : ask(stdin, "Second password (none if empty): ", out, PASSWORD_BYTES_MAX + 2, &len);
	*password_out = slice_of(out, len);
	if (read || (len == 0 && feof(stdin)))
		return true;
	cli_fail(CLI_FAILED, "the second password has more than %zu bytes", PASSWORD_BYTES_MAX);
	return false;
}

/* ---- output ---- */

void cli_table_cell(struct cli_table *t, const char *fmt, ...)
{
	va_list args;
	char *text = NULL;
	if (t->cells == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		t->cell = xrealloc(t->cell, t->cap * sizeof(char *));
	}
	va_start(args, fmt);
	int len = vasprintf(&text, fmt, args);
	va_end(args);
	ASSERT(len >= 0);
	t->cell[t->cells++] = text;
}

/* Characters, not bytes, so that UTF-8 names line up. */
static size_t width(const char *s)
{
	size_t n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

void cli_table_print(struct cli_table *t)
{
	size_t *widths = xcalloc(t->columns, sizeof(size_t));
	for (size_t i = 0; i < t->cells; i++)
		widths[i % t->columns] = max_size(widths[i % t->columns], width(t->cell[i]));
	for (size_t i = 0; i < t->cells; i++) {
		bool last = i % t->columns == t->columns - 1;
		fputs(t->cell[i], stdout);
		for (size_t pad = last ? 0 : widths[i % t->columns] + 2 - width(t->cell[i]); pad; pad--)
			putchar(' ');
		if (last)
			putchar('\n');
		free(t->cell[i]);
	}
	free(widths);
	free(t->cell);
	*t = (struct cli_table){ .columns = t->columns };
}

json_t *cli_json_string(struct slice s)
{
	if (utf8_valid(s))
		return json_stringn(s.ptr, s.len);
	char *copy = slice_dup(s);
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	json_t *string = json_string(copy);
	free(copy);
	return string;
}

json_t *cli_json_setting(enum setting_id id, const struct setting_value *value)
{
	char text[SETTING_TEXT_BYTES];
	int64_t n = value->is_default ? setting_get(id)->number : value->number;
	switch (setting_get(id)->kind) {
	case SETTING_BOOL:
		return json_boolean(n != 0);
	case SETTING_BYTES:
	case SETTING_COUNT:
	case SETTING_SECONDS:
	case SETTING_DAYS:
		return json_integer(n);
	case SETTING_SEPARATOR:
	case SETTING_XTND:
	case SETTING_MASTER:
	case SETTING_NETWORKS:
	case SETTING_DELETION:
	case SETTING_OVER_QUOTA:
	case SETTING_SCHEMES:
	case SETTING_SCHEME:
		setting_format(id, value, text);
		return json_string(text);
	}
	UNREACHABLE();
}
