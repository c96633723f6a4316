/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet.h - this node in its fleet: its name, its lease in Redis, and which master of Redis it believes.
 *
 * For net/server, which configures and starts it, and for owner.c.  Without Redis nothing here runs: fleet_on() is false and
 * costs a load.
 *
 * fleet_configure once, from the main thread; then on each shard fleet_start (on a fiber) and fleet_stop.  Shard 0 keeps the
 * lease; every shard has its own link to Redis.
 */
#ifndef PENFOLD_NET_FLEET_FLEET_H
#define PENFOLD_NET_FLEET_FLEET_H

#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/run/redis.h"

enum placement {
	PLACEMENT_HOME, /* local disks: an account has one home, decided without Redis; with no list of nodes this node is everybody's */
	PLACEMENT_ANY   /* a shared folder: whoever gets the login takes a free account */
};

struct fleet_node {
	const char *name, *address; /* of another node: as peer.address there */
};

struct fleet_config {
	const char *node;            /* 1 to FLEET_NODE_BYTES_MAX of a-z A-Z 0-9 . - _ */
	enum placement placement;
	const char *peer_address;    /* or NULL */
	const struct fleet_node *nodes; /* placement home: all of them, this one too; none: this one alone */
	unsigned node_count;
	const char *run_path;        /* a folder of this node's for its lock file: the data folder */
	bool proxies;                /* sessions that belong elsewhere are passed on: nobody is asked to let go */
	bool redis_on;
	struct redis_settings redis; /* of one link; scripts and connected are set here */
	uint32_t ttl_ms, renew_ms, margin_ms; /* of the lease: expires after ttl; ours until ttl - margin after the renewal was sent */
	uint32_t idle_ms;            /* an account without sessions is kept so long */
	uint32_t take_wait_ms;       /* how long a session waits for another node to let go */
};
void fleet_config_default(struct fleet_config *config_out);

/* Main thread, before the shards, after the data folder was locked. ERR_IN_USE: a process of this node's name works on this folder. Blocking. */
enum err fleet_open(const struct fleet_config *config);
void fleet_close(void);
/* On each shard, on a fiber; stop lets everything go: sessions are over by then, the store is not. Later. */
enum err fleet_start(void);
void fleet_stop(void);

/* Redis is configured. Any thread, now. */
bool fleet_on(void);
enum placement fleet_placement(void);
/* fleet_config.proxies. Any thread, now. */
bool fleet_proxies(void);

struct fleet_facts {
	char node[FLEET_NODE_BYTES_MAX + 1];
	char incarnation[FLEET_INCARNATION_BYTES + 1]; /* empty: none now */
	int64_t lease_ms;    /* until our deadline; negative: past it */
	bool redis_up;       /* this shard's link */
	int64_t wait_ms;     /* a new master is waited for so long; 0: no */
};
/* For who and the metrics. On a shard, now. */
void fleet_facts(struct fleet_facts *out);
/* Until the deadline of our lease, at the boot time given; 0: past it, or no fleet. Any thread, now. */
uint64_t fleet_lease_left_ms(uint64_t boot_ns);

/* The rendezvous home of an account among the nodes, for placement home: an index; node_count at least 1. Now. */
unsigned fleet_home(uint64_t account_id, const struct fleet_node *nodes, unsigned node_count);

#endif
