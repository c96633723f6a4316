/* SPDX-License-Identifier: Apache-2.0 */
/* guard.c - see guard.h. */
#include "tenancy/guard.h"

#include "core/run/clock.h"
#include "tenancy/directory_private.h"

/* ---- which entries ---- */

uint32_t guard_source(uint32_t source)
{
	const struct tally *t = tally_at(source);
	return t->kind == TALLY_ADDRESS && !addr_is_v4_bytes16(t->key.bytes) ? t->up : source;
}

static uint32_t network_of(uint32_t guarded) { return tally_at(guarded)->up; }

/* Where somebody is at home: an IPv4 /24, since providers give out another address from time to time, or an IPv6 /64. */
static const struct tally_key *home_key(uint32_t source)
{
	uint32_t g = guard_source(source);
	return addr_is_v4_bytes16(tally_at(g)->key.bytes) ? &tally_at(network_of(g))->key : &tally_at(g)->key;
}

/* What the tenant of the domain that a login names has set; the same whether the name exists. */
struct own_rules {
	bool has_delay, trusts; /* trusts: the client's network is one of the tenant's */
	uint32_t delay_ms_max;
};

static bool in_networks(struct slice networks, uint32_t source)
{
	struct slice word;
	struct cidr net;
	while (slice_next(&networks, ' ', &word))
		if (cidr_parse(word, &net) == OK && cidr_has(&net, tally_at(source)->key.bytes))
			return true;
	return false;
}

static struct own_rules rules_of(const struct domain_facts *domain, uint32_t source)
{
	return (struct own_rules){ .has_delay = domain->has_guess_delay, .delay_ms_max = (uint32_t)min_u64((uint64_t)domain->guess_delay_max_s * 1000, GUARD_OWN_DELAY_MS_MAX),
				   .trusts = domain->trusted_networks.len && in_networks(domain->trusted_networks, source) };
}

static size_t put_folded(char *out, struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		out[i] = text.ptr[i] >= 'A' && text.ptr[i] <= 'Z' ? (char)(text.ptr[i] + 32) : text.ptr[i];
	return text.len;
}

static struct slice without_subaddress(struct slice local, char separator)
{
	size_t cut = separator && local.len > 1 ? slice_find(slice_from(local, 1), separator) : SIZE_MAX;
	return cut == SIZE_MAX ? local : slice_upto(local, cut + 1);
}

/*
 * A login without what does not name another account: case, subaddress, alias domain, '%' for '@', the default domain.  Only the text
 * and its domain are looked at, never who is found (invariant 11), so the SDPS form user+host has one entry for each user whatever the host.
 */
static struct tally_key name_key(struct slice login, uint32_t source, struct own_rules *own_out)
{
	struct domain_facts *facts = NULL;
	char text[GUARD_LOGIN_BYTES_MAX + 1 + DOMAIN_BYTES_MAX];
	login = slice_upto(login, GUARD_LOGIN_BYTES_MAX);
	size_t at = slice_rfind(login, '@');
	if (at == SIZE_MAX)
		at = slice_rfind(login, '%');
	bool sdps_form = at == SIZE_MAX && slice_find(login, '+') != SIZE_MAX;
	struct slice local = slice_upto(login, at), domain = at == SIZE_MAX ? slice_of("", 0) : slice_upto(slice_from(login, at + 1), DOMAIN_BYTES_MAX);
	enum err e = sdps_form || (at != SIZE_MAX && !domain.len) ? ERR_NOT_FOUND : directory_domain_facts(domain, &facts);
	*own_out = (struct own_rules){ 0 };
	if (sdps_form)
		local = without_subaddress(local, '+');
	if (e == OK) {
		*own_out = rules_of(facts, source);
		local = without_subaddress(local, facts->subaddress_separator);
		domain = facts->name;
	}
	size_t len = put_folded(text, local);
	text[len++] = '@';
	len += put_folded(text + len, domain);
	if (facts)
		fact_unref(&facts->fact);
	return tally_hash(slice_of(text, len));
}

static struct tally_key pair_key(const struct tally_key *name, uint32_t source)
{
	struct tally_key both[2] = { *name, *home_key(source) };
	return tally_hash(slice_of(both, sizeof(both)));
}

/* ---- failures; the entry's lock is held ---- */

static uint32_t failures_now(struct tally *t, uint64_t now_ms)
{
	uint64_t half_ms = (uint64_t)limits()->forget_s * 1000, halves = t->failures && now_ms > t->failed_ms ? (now_ms - t->failed_ms) / half_ms : 0;
	if (halves) {
		t->failures = halves < 32 ? t->failures >> halves : 0;
		t->failed_ms += halves * half_ms;
	}
	return t->failures;
}

static uint32_t delay_for(uint32_t failures, uint64_t free_of_charge)
{
	const struct limits_config *l = limits();
	if (failures < free_of_charge || !l->delay_ms_max)
		return 0;
	uint64_t doublings = failures - free_of_charge;
	return doublings >= 20 ? l->delay_ms_max : (uint32_t)min_u64((uint64_t)l->delay_first_ms << doublings, l->delay_ms_max);
}

static uint32_t delay_at(uint32_t handle, uint64_t free_of_charge, uint64_t now_ms)
{
	struct tally *t = tally_at(handle);
	if (!__atomic_load_n(&t->failures, __ATOMIC_RELAXED))
		return 0; /* nearly always */
	tally_lock(t);
	uint32_t failures = failures_now(t, now_ms);
	tally_unlock(t);
	return delay_for(failures, free_of_charge);
}

/* A fault that is counted at most so often, or an attacker's count would take days to go down. */
static void count_failure(uint32_t handle, uint64_t now_ms)
{
	struct tally *t = tally_at(handle);
	tally_lock(t);
	uint32_t failures = failures_now(t, now_ms);
	if (!failures)
		t->failed_ms = now_ms;
	if (failures < 1024)
		__atomic_store_n(&t->failures, failures + 1, __ATOMIC_RELAXED);
	tally_unlock(t);
}

/* ---- before the proof ---- */

struct view_of_pair {
	bool at_home, repeated;
	uint32_t failures;
};

static struct view_of_pair look_at_pair(const struct tally_key *key, uint64_t mac, uint64_t now_ms)
{
	struct view_of_pair v = { false, false, 0 };
	uint32_t h = tally_find(TALLY_PAIR, *key);
	if (!h)
		return v;
	struct tally *t = tally_at(h);
	tally_lock(t);
	v.failures = failures_now(t, now_ms);
	v.at_home = t->good_ms && now_ms < t->good_ms + (uint64_t)GUARD_HOME_S * 1000 && v.failures < GUARD_PAIR_FAILURES_FREE;
	for (uint32_t i = 0; mac && i < min_u64(t->wrong_count, GUARD_WRONG_KEPT); i++)
		v.repeated = v.repeated || t->wrong[i] == mac;
	tally_unlock(t);
	tally_put(h);
	return v;
}

/* A place behind the others from this address; false: too many wait. */
static bool queue_up(uint32_t handle, uint32_t *delay_io, uint64_t now_ms)
{
	struct tally *t = tally_at(handle);
	uint64_t step = *delay_io / GUARD_TURNS + 1;
	tally_lock(t);
	uint64_t turn = max_u64(t->turn_ms, now_ms), wait = max_u64(turn - now_ms, *delay_io);
	bool fits = turn - now_ms <= *delay_io;
	if (fits)
		t->turn_ms = turn + step;
	tally_unlock(t);
	*delay_io = (uint32_t)wait;
	return fits;
}

static void worse(struct guard_pass *pass, uint32_t delay_ms, const char *reason)
{
	if (delay_ms > pass->delay_ms) {
		pass->delay_ms = delay_ms;
		pass->reason = reason;
	}
}

static void delay_stranger(struct guard_pass *pass, uint64_t now_ms)
{
	const struct limits_config *l = limits();
	uint32_t g = guard_source(pass->source), name = tally_find(TALLY_NAME, pass->name);
	worse(pass, delay_at(g, l->failures_free, now_ms), "address");
	worse(pass, delay_at(network_of(g), (uint64_t)l->failures_free * GUARD_NET_FACTOR, now_ms), "network");
	if (name)
		worse(pass, delay_at(name, l->name_failures_free, now_ms), "login");
	tally_put(name);
}

enum err guard_ask(uint32_t source, struct slice login, struct slice password, struct guard_pass *pass_out)
{
	*pass_out = (struct guard_pass){ .source = source };
	if (!source)
		return OK;
	struct own_rules own;
	pass_out->name = name_key(login, source, &own);
	uint64_t now_ms = clock_now_ms();
	pass_out->pair = pair_key(&pass_out->name, source);
	struct slice name_bytes = slice_of(pass_out->name.bytes, sizeof(pass_out->name.bytes));
	pass_out->mac = password.len ? tally_mac(name_bytes, password) | 1 : 0;
	struct view_of_pair pair = look_at_pair(&pass_out->pair, pass_out->mac, now_ms);
	pass_out->repeated = pair.repeated;
	if (!pair.at_home && !own.trusts)
		delay_stranger(pass_out, now_ms);
	if (own.has_delay && pass_out->delay_ms > own.delay_ms_max)
		pass_out->delay_ms = own.delay_ms_max;
	if (pair.repeated && pass_out->delay_ms > GUARD_REPEAT_MS_MAX) {
		pass_out->delay_ms = GUARD_REPEAT_MS_MAX;
		pass_out->reason = "repeated";
	}
	if (!pass_out->delay_ms)
		return OK;
	if (strcmp(pass_out->reason, "login") != 0 && !queue_up(guard_source(source), &pass_out->delay_ms, now_ms))
		return ERR_BUSY;
	return ERR_AGAIN;
}

/* ---- after the proof ---- */

static void remember_wrong(const struct guard_pass *pass, uint64_t now_ms)
{
	uint32_t h = tally_get(TALLY_PAIR, pass->pair, 0);
	if (!h)
		return;
	struct tally *t = tally_at(h);
	tally_lock(t);
	if (pass->mac)
		t->wrong[t->wrong_count++ % GUARD_WRONG_KEPT] = pass->mac;
	tally_unlock(t);
	count_failure(h, now_ms);
	tally_put(h);
}

static void remember_right(const struct guard_pass *pass, uint64_t now_ms)
{
	struct tally *g = tally_at(guard_source(pass->source));
	uint32_t h = tally_get(TALLY_PAIR, pass->pair, 0);
	tally_lock(g);
	g->good_ms = now_ms | 1;
	tally_unlock(g);
	if (!h)
		return;
	struct tally *t = tally_at(h);
	tally_lock(t);
	t->good_ms = now_ms | 1;
	t->failures = 0;
	tally_unlock(t);
	tally_put(h);
}

uint32_t guard_tell(const struct guard_pass *pass, enum err outcome)
{
	if (!pass->source)
		return 0;
	uint64_t now_ms = clock_now_ms();
	uint32_t g = guard_source(pass->source);
	if (outcome == OK || outcome == ERR_DENIED)
		remember_right(pass, now_ms);
	if (outcome == ERR_AUTH && !pass->repeated) {
		uint32_t name = tally_get(TALLY_NAME, pass->name, 0);
		count_failure(g, now_ms);
		count_failure(network_of(g), now_ms);
		if (name)
			count_failure(name, now_ms);
		tally_put(name);
		remember_wrong(pass, now_ms);
	}
	return __atomic_load_n(&tally_at(g)->failures, __ATOMIC_RELAXED);
}

bool guard_at_home(uint32_t source)
{
	struct tally *g = tally_at(guard_source(source));
	tally_lock(g);
	bool home = g->good_ms && clock_now_ms() < g->good_ms + (uint64_t)GUARD_HOME_S * 1000;
	tally_unlock(g);
	return home;
}
