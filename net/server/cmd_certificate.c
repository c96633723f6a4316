/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_certificate.c - the verbs certificate add, list, remove: pairs by name in the folder that tls.certificates names.
 *
 * The folder is the truth (net/certificate.h); these verbs only put pairs there that fit, under names that belong to the tenant they
 * are added for.  A running server takes them up within a second.
 */
#include "net/certificate.h"
#include "net/server/cli_args.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_ROOM 4096

static const char *folder_of(struct cli *cli)
{
	if (!cli_config(cli))
		return NULL;
	if (!cli->config->tls.certificates)
		cli_fail(CLI_USAGE, "%s names no folder: tls: { certificates: FOLDER }", cli->config_path);
	return cli->config->tls.certificates;
}

/* In lower case, "*." as it is; false after a line. */
static bool clean_name(const char *verb, const char *text, char out[DOMAIN_BYTES_MAX + 1])
{
	size_t len = strlen(text), from = strncmp(text, "*.", 2) == 0 ? 1 : 0;
	bool good = len > 2 && len <= DOMAIN_BYTES_MAX && text[0] != '.' && strchr(text + from + 1, '.') && !strstr(text, "..") && text[len - 1] != '.';
	for (size_t i = 0; i <= len && good; i++) {
		out[i] = (char)tolower((unsigned char)text[i]);
		good = i < from || i == len || isalnum((unsigned char)text[i]) || strchr(".-_", text[i]);
	}
	if (!good)
		cli_misuse(verb, "\"%s\" is no host name, nor *.DOMAIN", text);
	return good;
}

/* FOLDER/_.example.com for *.example.com, else FOLDER/name. */
static bool place_of(const char *folder, const char *name, const char *file, char out[PATH_ROOM])
{
	int n = snprintf(out, PATH_ROOM, "%s/%s%s%s%s", folder, name[0] == '*' ? "_" : "", name[0] == '*' ? name + 1 : name, *file ? "/" : "", file);
	return n > 0 && n < PATH_ROOM;
}

/* ---- whose name it is: the tenant of the longest domain that it lies in ---- */

struct owner {
	struct slice name;
	size_t best;
	char tenant[TENANT_BYTES_MAX + 1];
};

static bool look_at_domain(void *arg, const struct manage_domain *d)
{
	struct owner *o = arg;
	if (d->name.len > o->name.len || d->name.len <= o->best || d->tenant.len > TENANT_BYTES_MAX)
		return true;
	struct slice end = slice_from(o->name, o->name.len - d->name.len);
	if (!slice_eq_nocase(end, d->name) || (end.ptr != o->name.ptr && end.ptr[-1] != '.'))
		return true;
	o->best = d->name.len;
	memcpy(o->tenant, d->tenant.ptr, d->tenant.len);
	o->tenant[d->tenant.len] = 0;
	return true;
}

static int check_owner(struct cli *cli, const char *name, const char *tenant)
{
	struct owner o = { .name = slice_str(name[0] == '*' ? name + 2 : name) };
	int status;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = cli_outcome(m, manage_domains(m, slice_of(NULL, 0), look_at_domain, &o));
	manage_close(m);
	if (status || (o.best && slice_eq_nocase(slice_str(o.tenant), slice_str(tenant))))
		return status;
	return cli_fail(CLI_FAILED, "%s lies in no domain of tenant %s", name, tenant);
}

/* ---- add ---- */

static char *read_whole(const char *path, size_t *bytes_out)
{
	char *text = xmalloc(TLS_PEM_BYTES_MAX + 1);
	FILE *f = fopen(path, "re");
	*bytes_out = f ? fread(text, 1, TLS_PEM_BYTES_MAX + 1, f) : 0;
	if (f)
		fclose(f);
	if (*bytes_out && *bytes_out <= TLS_PEM_BYTES_MAX)
		return text;
	free(text);
	cli_fail(CLI_FAILED, "%s: %s", path, f ? "empty or too large" : strerror(errno));
	return NULL;
}

/* Beside it, synced, then renamed over it. */
static bool write_file(const char *path, mode_t mode, const char *text, size_t bytes)
{
	char fresh[PATH_ROOM + 8];
	snprintf(fresh, sizeof fresh, "%s.new", path);
	unlink(fresh);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	bool good = fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes && fsync(fd) == 0;
	int error = errno;
	if (fd >= 0 && close(fd) != 0)
		good = false;
	if (good && rename(fresh, path) == 0)
		return true;
	error = good ? errno : error;
	unlink(fresh);
	cli_fail(CLI_FAILED, "%s: %s", path, strerror(error));
	return false;
}

struct texts {
	char *chain, *key;
	size_t chain_bytes, key_bytes;
};

static int put_pair(const char *folder, const char *name, const struct texts *t)
{
	char at[PATH_ROOM], chain[PATH_ROOM], key[PATH_ROOM], other[PATH_ROOM];
	struct stat st;
	if (!place_of(folder, name, "", at) || !place_of(folder, name, "tls.crt", chain) || !place_of(folder, name, "tls.key", key) ||
	    !place_of(folder, name, "fullchain.pem", other))
		return cli_fail(CLI_FAILED, "%s: the path is too long", folder);
	if (mkdir(at, 0700) != 0 && errno != EEXIST)
		return cli_fail(CLI_FAILED, "%s: %s", at, strerror(errno));
	if (stat(other, &st) == 0)
		return cli_fail(CLI_FAILED, "%s is there already and wins: renew it as it was made, or remove it", other);
	/* Between the two the pair does not fit together: the server keeps the old one for that moment. */
	return write_file(key, 0600, t->key, t->key_bytes) && write_file(chain, 0644, t->chain, t->chain_bytes) ? CLI_OK : CLI_FAILED;
}

/* The pair is good by itself and is for this name. */
static int check_pair(const char *chain_path, const char *key_path, const char *name)
{
	char why[CERTIFICATE_WHY_BYTES];
	struct certificate *c;
	if (certificate_load(chain_path, key_path, &c, why) != OK)
		return cli_fail(CLI_FAILED, "%s", why);
	bool covers = certificate_covers(c, name);
	certificate_put(c);
	return covers ? CLI_OK : cli_fail(CLI_FAILED, "%s: the certificate is not for %s", chain_path, name);
}

static int cmd_certificate_add(struct cli *cli, int argc, char **argv)
{
	const char *tenant = "", *chain = "", *key = "";
	const struct cli_option options[] = { { "--tenant", &tenant, NULL }, { "--certificate", &chain, NULL }, { "--key", &key, NULL }, { NULL, NULL, NULL } };
	char name[DOMAIN_BYTES_MAX + 1];
	struct texts t = { 0 };
	if (!cli_take("certificate add", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	if (!*tenant || !*chain || !*key)
		return cli_misuse("certificate add", "--tenant TENANT, --certificate FILE and --key FILE are needed");
	const char *folder = clean_name("certificate add", argv[0], name) ? folder_of(cli) : NULL;
	if (!folder)
		return CLI_USAGE;
	int status = check_pair(chain, key, name);
	if (!status && (!(t.chain = read_whole(chain, &t.chain_bytes)) || !(t.key = read_whole(key, &t.key_bytes))))
		status = CLI_FAILED;
	if (!status)
		status = check_owner(cli, name, tenant); /* from here on as the owner of the data folder, where root calls */
	if (!status)
		status = put_pair(folder, name, &t);
	free(t.chain);
	free(t.key);
	if (status)
		return status;
	if (cli->json)
		return cli_print_json(json_pack("{s:o}", "added", cli_json_string(slice_str(name))));
	printf("certificate for %s added\n", name);
	return CLI_OK;
}

/* ---- remove ---- */

static int cmd_certificate_remove(struct cli *cli, int argc, char **argv)
{
	static const char *const files[] = { "tls.crt", "tls.key", "fullchain.pem", "privkey.pem", "" };
	const struct cli_option options[] = { { NULL, NULL, NULL } };
	char name[DOMAIN_BYTES_MAX + 1], path[PATH_ROOM];
	if (!cli_take("certificate remove", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	const char *folder = clean_name("certificate remove", argv[0], name) ? folder_of(cli) : NULL;
	if (!folder)
		return CLI_USAGE;
	struct stat st;
	if (!place_of(folder, name, "", path) || lstat(path, &st) != 0)
		return cli_fail(CLI_NOT_FOUND, "no certificate for %s", name);
	if (S_ISLNK(st.st_mode)) /* what it leads to belongs to somebody else */
		return unlink(path) == 0 ? CLI_OK : cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		place_of(folder, name, files[i], path);
		if ((*files[i] ? unlink(path) : rmdir(path)) != 0 && errno != ENOENT)
			return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
	}
	if (cli->json)
		return cli_print_json(json_pack("{s:o}", "removed", cli_json_string(slice_str(name))));
	printf("certificate for %s removed\n", name);
	return CLI_OK;
}

/* ---- list ---- */

static void list_one(struct cli_table *table, json_t *json, const char *folder, const char *entry)
{
	static const char *const layouts[][2] = { { "fullchain.pem", "privkey.pem" }, { "tls.crt", "tls.key" } };
	char name[DOMAIN_BYTES_MAX + 2], chain[PATH_ROOM], key[PATH_ROOM], why[CERTIFICATE_WHY_BYTES] = "no pair in its folder", day[32] = "";
	struct certificate *c = NULL;
	struct stat st;
	snprintf(name, sizeof name, "%s%s", entry[0] == '_' ? "*" : "", entry[0] == '_' ? entry + 1 : entry);
	for (size_t i = 0; i < ARRAY_LEN(layouts) && !c; i++)
		if (place_of(folder, name, layouts[i][0], chain) && place_of(folder, name, layouts[i][1], key) && stat(chain, &st) == 0)
			certificate_load(chain, key, &c, why);
	if (c) {
		log_format_time(c->expires_s * 1000, day);
		day[10] = 0;
	}
	if (json) {
		json_array_append_new(json, json_pack("{s:o, s:o, s:o}", "name", cli_json_string(slice_str(name)), "expires_s",
						      c ? json_integer(c->expires_s) : json_null(), "fault",
						      c ? json_null() : cli_json_string(slice_str(why))));
	} else {
		cli_table_cell(table, "%s", name);
		cli_table_cell(table, "%s", day);
		cli_table_cell(table, "%s", c ? "" : why);
	}
	certificate_put(c);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int cmd_certificate_list(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = { { NULL, NULL, NULL } };
	if (!cli_take("certificate list", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	const char *folder = folder_of(cli);
	if (!folder)
		return CLI_USAGE;
	DIR *d = opendir(folder);
	if (!d)
		return cli_fail(CLI_FAILED, "%s: %s", folder, strerror(errno));
	struct cli_table table = { .columns = 3 };
	json_t *json = cli->json ? json_array() : NULL;
	static const char *const head[] = { "NAME", "EXPIRES", "FAULT" };
	for (int i = 0; i < 3 && !json; i++)
		cli_table_cell(&table, "%s", head[i]);
	char **names = NULL;
	size_t count = 0, cap = 0;
	for (struct dirent *entry; (entry = readdir(d));) {
		if (entry->d_name[0] == '.' || !strchr(entry->d_name, '.') || strlen(entry->d_name) > DOMAIN_BYTES_MAX)
			continue;
		if (count == cap)
			names = xrealloc(names, (cap = cap ? 2 * cap : 64) * sizeof *names);
		names[count++] = xstrdup(entry->d_name);
	}
	closedir(d);
	if (count)
		qsort(names, count, sizeof *names, by_text);
	for (size_t i = 0; i < count; i++) {
		list_one(&table, json, folder, names[i]);
		free(names[i]);
	}
	free(names);
	if (json)
		return cli_print_json(json);
	cli_table_print(&table);
	return CLI_OK;
}

const struct verb certificate_verbs[] = {
	{ "certificate add", "NAME --tenant TENANT --certificate FILE --key FILE", "serve a name with a certificate of its own",
	  "NAME is a host below a domain of the tenant, or *.DOMAIN for every host of it. The pair is checked and copied into the\n"
	  "folder that the configuration's tls.certificates names; adding it again renews it. A running server follows.",
	  cmd_certificate_add },
	{ "certificate list", "", "list the names and when their certificates expire", NULL, cmd_certificate_list },
	{ "certificate remove", "NAME", "serve a name with the default certificate again", NULL, cmd_certificate_remove },
	{ NULL, NULL, NULL, NULL, NULL }
};
