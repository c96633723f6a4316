/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script.c - the scripts that nodes run in Redis: each is one step that nobody else's can fall into.
 *
 * A script touches only the keys that it is given, which all have one hash tag, so that a Redis Cluster runs them.  None of them reads a lease
 * and an account together: whether a holder lives is asked by a command of its own, and an incarnation is never drawn twice, so its
 * answer cannot grow old.  A script that refuses has written nothing: a failed attempt that refreshed something would keep a dead
 * holder alive (model: M_REFRESH).
 *
 * `own` is "NODE/INCARNATION/TAKE"; the prefix of an incarnation is "NODE/INCARNATION/".
 */
#include "net/fleet/fleet_private.h"

/* When was this master first seen by anybody? ms ago by its own clock; 0: now, by us. KEYS pf:m ARGV run id */
struct redis_script script_see = {
	.text = "local t = redis.call('TIME')\n"
		"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
		"local h = redis.call('HMGET', KEYS[1], 'run', 'at')\n"
		"local at = tonumber(h[2] or '')\n"
		"if h[1] ~= ARGV[1] or not at or at > now then\n"
		"  redis.call('HSET', KEYS[1], 'run', ARGV[1], 'at', string.format('%.0f', now))\n"
		"  return 0\n"
		"end\n"
		"return now - at\n",
};

/*
 * Takes a node's lease as SET NX PX; the own value found there is renewed and counts (the reply to a try before was lost), and one
 * whose process is proved dead is no obstacle. Returns 1, or who has it. KEYS pf:n ARGV incarnation, address, ttl, dead incarnation or ''
 */
struct redis_script script_acquire = {
	.text = "local v = redis.call('GET', KEYS[1])\n"
		"local inc = v and string.match(v, '^%S+')\n"
		"if not inc or inc == ARGV[1] or (ARGV[4] ~= '' and inc == ARGV[4]) then\n"
		"  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])\n"
		"  return 1\n"
		"end\n"
		"return v\n",
};

/* Compare and expire. 1, or 0: it is gone, or somebody else's. KEYS pf:n ARGV incarnation, ttl */
struct redis_script script_renew = {
	.text = "local v = redis.call('GET', KEYS[1])\n"
		"if v and string.match(v, '^%S+') == ARGV[1] then\n"
		"  redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
		"  return 1\n"
		"end\n"
		"return 0\n",
};

/* Compare and delete. KEYS pf:n ARGV incarnation */
struct redis_script script_drop = {
	.text = "local v = redis.call('GET', KEYS[1])\n"
		"if v and string.match(v, '^%S+') == ARGV[1] then return redis.call('DEL', KEYS[1]) end\n"
		"return 0\n",
};

#define DROP_POPS                                                               \
	"for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do\n"                 \
	"  if f == 'pop' or string.sub(f, 1, 4) == 'pop:' then redis.call('HDEL', KEYS[1], f) end\n" \
	"end\n"
#define IS_MINE(own) "string.sub(" own ", 1, #ARGV[2]) == ARGV[2]"

/*
 * The one script: ownership and the POP3 lock together. KEYS pf:a ARGV own, prefix, the `own` of a holder that was found dead or '',
 * field or '', value. Returns { '', gen }: taken; or { own, gen, 1 if a POP3 session excludes this one, 1 if there is any }.
 * Fields of another time never decide at a take: had they, one left over would lock the maildrop for ever.
 */
struct redis_script script_take = {
	.text = "local h = redis.call('HMGET', KEYS[1], 'own', 'gen')\n"
		"local own, gen = h[1] or '', h[2] or '0'\n"
		"if own ~= '' and own ~= ARGV[3] and not (" IS_MINE("own") ") then\n"
		"  local held, any = 0, 0\n"
		"  for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do\n"
		"    if f == 'pop' or string.sub(f, 1, 4) == 'pop:' then\n"
		"      any = 1\n"
		"      if ARGV[4] == 'pop' or (ARGV[4] ~= '' and (f == 'pop' or f == ARGV[4])) then held = 1 end\n"
		"    end\n"
		"  end\n"
		"  return {own, gen, held, any}\n"
		"end\n" DROP_POPS
		"redis.call('HSET', KEYS[1], 'own', ARGV[1])\n"
		"if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], ARGV[4], ARGV[5]) end\n"
		"return {'', gen}\n",
};

/* At a new master: what is held is said again. KEYS pf:a ARGV own, prefix, gen, then fields and values. 1, or 0: somebody else's */
struct redis_script script_claim = {
	.text = "local own = redis.call('HGET', KEYS[1], 'own')\n"
		"if own and own ~= '' and not (" IS_MINE("own") ") then return 0 end\n" DROP_POPS
		"redis.call('HSET', KEYS[1], 'own', ARGV[1], 'gen', ARGV[3])\n"
		"for i = 4, #ARGV - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end\n"
		"return 1\n",
};

/* A field follows the owner's memory. KEYS pf:a ARGV own, field or '', value or '' to delete, gen or '', '1' to become the owner (placement home) */
struct redis_script script_field = {
	.text = "if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'own', ARGV[1])\n"
		"elseif redis.call('HGET', KEYS[1], 'own') ~= ARGV[1] then return 0 end\n"
		"if ARGV[2] ~= '' and ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[2])\n"
		"elseif ARGV[2] ~= '' then redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) end\n"
		"if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'gen', ARGV[4]) end\n"
		"return 1\n",
};

/* Compares all three parts: a release that comes late must not hit the same node's next take (model: M_RELNOTOKEN). KEYS pf:a ARGV own, gen or '' */
struct redis_script script_release = {
	.text = "if redis.call('HGET', KEYS[1], 'own') ~= ARGV[1] then return 0 end\n" DROP_POPS
		"redis.call('HDEL', KEYS[1], 'own')\n"
		"if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'gen', ARGV[2]) end\n"
		"return 1\n",
};

/* An account that is gone for good. KEYS pf:a ARGV own */
struct redis_script script_forget = {
	.text = "if redis.call('HGET', KEYS[1], 'own') ~= ARGV[1] then return 0 end\n"
		"return redis.call('DEL', KEYS[1])\n",
};

/* KEYS pf:w ARGV how many */
struct redis_script script_wishes = {
	.text = "local l = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)\n"
		"if #l > 0 then redis.call('LTRIM', KEYS[1], #l, -1) end\n"
		"return l\n",
};

const struct redis_script *const fleet_scripts[] = { &script_see,   &script_acquire, &script_renew,   &script_drop,   &script_take,
						     &script_claim, &script_field,   &script_release, &script_forget, &script_wishes };
const unsigned fleet_script_count = ARRAY_LEN(fleet_scripts);
