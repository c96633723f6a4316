/* SPDX-License-Identifier: Apache-2.0 */
/* The login cache: what a login costs whose password was right a short while ago, the directory's answer in hand. */
#include "bench/micro/c.h"

extern "C" {
#include "core/run/shard.h"
#include "tenancy/verified.h"
}

static const char hash[] = "{CRYPT}$6$rounds=5000$saltsaltsalt$"
                           "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234";

namespace {
struct Case {
	benchmark::State *state;
	uint64_t logins;
};
}

static struct record *make_record(uint64_t id)
{
	struct subject subject = {};
	struct slice password = slice_of(hash, sizeof(hash) - 1);
	subject.account_id = id;
	return record_new(&subject, &password, 1);
}

/* A hit among many, the MAC included. */
static void on_shard(void *arg)
{
	Case *c = static_cast<Case *>(arg);
	struct verified *v = verified_open(MIB(64), 600);
	struct record *record = make_record(1);
	const struct slice password = SLICE_LIT("correct horse battery staple");
	const unsigned purpose = 1; /* a login by one protocol */
	for (uint64_t i = 0; i < c->logins; i++) {
		struct verified_mac other = { { i * 0x9e3779b97f4a7c15ull, i } };
		verified_put(v, other, 1000);
	}
	verified_put(v, verified_mac(v, record, password, purpose), 1000);
	for (auto _ : *c->state)
		BENCH_CHECK(verified_has(v, verified_mac(v, record, password, purpose), 2000));
	c->state->SetItemsProcessed(c->state->iterations());
	fact_unref(&record->fact);
	verified_close(v);
}

static void verified_hit(benchmark::State &state)
{
	Case c = { &state, static_cast<uint64_t>(state.range(0)) };
	BENCH_CHECK(shard_run_alone(on_shard, &c) == OK);
}
BENCHMARK(verified_hit)->Arg(0)->Arg(1000000);
