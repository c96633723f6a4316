/* SPDX-License-Identifier: Apache-2.0 */
/* config_compare.c - which settings of a newer file only a restart can bring: the texts and lists; the numbers' names stand in config.c. */
#include "net/server/config_private.h"

#include <stddef.h>
#include <string.h>

/* Files that are watched are compared by name: their contents may change at any time. */
static const struct {
	const char *name;
	size_t at;
} texts[] = {
#define T(name, member) { name, offsetof(struct config, member) }
	T("data", data), T("default_domain", default_domain), T("hostname", hostname), T("user", user), T("admin_socket", admin_socket),
	T("http.address", http_address), T("node", node), T("peer.address", peer.address),
	T("peer.certificate", peer.certificate), T("peer.key", peer.key), T("peer.ca", peer.ca), T("peer.key_file", peer.secret), T("redis.user", redis.user),
	T("redis.password_file", redis.password_file), T("redis.tls_ca", redis.tls_ca), T("redis.tls_name", redis.tls_name),
	T("redis.tls_certificate", redis.tls_certificate), T("redis.tls_key", redis.tls_key), T("redis.sentinel.master", redis.sentinel.master),
	T("redis.sentinel.user", redis.sentinel.user), T("redis.sentinel.password", redis.sentinel.password), T("io.backend", io.backend),
	T("oauth.keys", oauth.keys), T("oauth.issuer", oauth.issuer), T("oauth.audience", oauth.audience),
	T("oauth.username_claim", oauth.username_claim), T("gssapi.keytab", gssapi.keytab), T("gssapi.realm", gssapi.realm),
	T("gssapi.domain", gssapi.domain), T("tls.certificate", tls.certificate), T("tls.key", tls.key), T("tls.certificates", tls.certificates),
	T("tls.ticket_keys", tls.ticket_keys), T("lmtp.junk_header", lmtp.junk_name), T("lmtp.junk_header", lmtp.junk_value),
#undef T
};

static bool same(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static bool same_list(char *const *a, unsigned a_count, char *const *b, unsigned b_count)
{
	for (unsigned i = 0; a_count == b_count && i < a_count; i++)
		if (!same(a[i], b[i]))
			return false;
	return a_count == b_count;
}

static bool same_listeners(const struct config *a, const struct config *b)
{
	if (a->listeners_count != b->listeners_count)
		return false;
	for (unsigned i = 0; i < a->listeners_count; i++) {
		const struct config_listener *x = &a->listeners[i], *y = &b->listeners[i];
		if (x->protocol != y->protocol || x->tls != y->tls || x->tls13_only != y->tls13_only || x->plaintext != y->plaintext || x->proxy != y->proxy ||
		    x->client_certificate != y->client_certificate || x->client_name != y->client_name || x->trusted_count != y->trusted_count ||
		    !same(x->address, y->address) || !same(x->client_ca, y->client_ca) ||
		    (x->trusted_count && memcmp(x->trusted, y->trusted, x->trusted_count * sizeof *x->trusted) != 0))
			return false;
	}
	return true;
}

static bool same_directories(const struct config *a, const struct config *b)
{
	if (a->directories_count != b->directories_count)
		return false;
	for (unsigned i = 0; i < a->directories_count; i++) {
		const struct directory_source *x = &a->directories[i], *y = &b->directories[i];
		if (x->kind != y->kind || !same(x->path, y->path) || !same(x->tenant, y->tenant) || !same(x->domain, y->domain))
			return false;
	}
	return true;
}

static bool same_nodes(const struct config *a, const struct config *b)
{
	if (a->nodes_count != b->nodes_count)
		return false;
	for (unsigned i = 0; i < a->nodes_count; i++)
		if (!same(a->nodes[i].name, b->nodes[i].name) || !same(a->nodes[i].address, b->nodes[i].address))
			return false;
	return true;
}

static bool same_xmit(const struct config *a, const struct config *b)
{
	return a->xmit.smtp == b->xmit.smtp && a->xmit.address.len == b->xmit.address.len &&
	       (!a->xmit.address.len || memcmp(&a->xmit.address.u, &b->xmit.address.u, a->xmit.address.len) == 0);
}

void config_restart_names(const struct config *a, const struct config *b, void (*name)(void *arg, const char *name), void *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char *const *x = (char *const *)(const void *)((const char *)a + texts[i].at), *const *y = (char *const *)(const void *)((const char *)b + texts[i].at);
		if (!same(*x, *y))
			name(arg, texts[i].name);
	}
	const struct {
		const char *name;
		bool same;
	} others[] = {
		{ "listeners", same_listeners(a, b) },
		{ "directories", same_directories(a, b) },
		{ "nodes", same_nodes(a, b) },
		{ "placement", a->placement_any == b->placement_any },
		{ "redis.addresses", same_list(a->redis.addresses, a->redis.addresses_count, b->redis.addresses, b->redis.addresses_count) },
		{ "redis.sentinel.addresses", same_list(a->redis.sentinel.addresses, a->redis.sentinel.addresses_count, b->redis.sentinel.addresses,
							b->redis.sentinel.addresses_count) },
		{ "redis.password", a->redis.password_file || b->redis.password_file || same(a->redis.password, b->redis.password) }, /* its file is watched */
		{ "redis.cluster", a->redis.cluster == b->redis.cluster },
		{ "redis.tls", a->redis.tls == b->redis.tls },
		{ "io.pin", a->io.pin == b->io.pin },
		{ "admin", a->admin.mode == b->admin.mode && a->admin.group_set == b->admin.group_set && a->admin.group == b->admin.group },
		{ "auth.challenge", a->auth.challenge == b->auth.challenge },
		{ "auth.master_separator", a->auth.master_separator == b->auth.master_separator },
		{ "xmit.address", same_xmit(a, b) },
	};
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (!others[i].same)
			name(arg, others[i].name);
	config_restart_numbers(a, b, name, arg);
}
