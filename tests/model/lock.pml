/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.pml - node leases, the account hash, the one script and the POP3 lock.
 * The store's fence is fence.pml; here only the exclusion that Redis and the owner's memory give.
 *
 * Two nodes, one account, one POP3 client at each (a client that lands elsewhere is proxied, so two clients of one node
 * meet in its memory, which needs no model).  Time is a tick that may come between any two steps (a pause); all clocks
 * are counters that a tick takes down.  A failover replaces the master by a replica that may lag by any number of writes.
 * The field `pop` follows and never decides, so it is not here.
 *
 * (a) check(): never two POP3 sessions whose nodes are both within their deadlines.
 * (d) settle: from any reachable state, if faults stop and everyone polls, somebody gets the lock within 4 TTL.
 *
 * Switches: LOSS n (failovers that may lose writes)  CRASH n  TIMEOUT (replies and releases may be lost)
 *   LATE (a release may be executed any time later, after newer commands)  TWIN (both processes bear one node name)
 *   INCS n (a node begins at most n incarnations; without it the search with LOSS or CRASH does not end here)
 *   LAG n (how old, in ticks, the replica may be when it is promoted; TTL if not given)
 *   GAP (a take may be executed long after it was sent)  SETTLE  TTL n   mutants: M_...   see the README.
 */
#ifndef TTL
#define TTL   2                 /* lease in Redis, in ticks */
#endif
#define DL    (TTL - 1)         /* what the holder allows itself: TTL less a margin */
#ifndef LAG
#define LAG TTL
#endif
#ifndef LOSS
#define LOSS 0
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifdef TWIN
#define KEY(n) 0
#else
#define KEY(n) (n)
#endif
#define ENC(n, i, t) ((n) * 32 + (i) * 4 + (t))
#define INC(v) (((v) / 4) % 8)
#define NOD(v) ((v) / 32)
#define MINE(v, n, i) ((v) / 4 == (n) * 8 + (i))
#define OWNED 1
#define OK    3
#define WAIT  4

byte ml[2]; byte mi[2]; byte mo;        /* master: lease TTL, incarnation; account: own (node, incarnation, token) */
bit  mwu = 0; byte mw;                  /* pf:m: this master was not seen yet; what is left of the wait */
byte rl[2]; byte ri[2]; byte ro;        /* replica */
bit  rs; byte lag;                      /* it was chosen; how old it may still become */
byte fo;                                /* the master's run id */
byte inc[2]; byte ninc[2]; byte dl[2]; byte sd[2]; byte lr[2];
byte seenf[2];                          /* the run id that the node knows */
bit  need[2];                           /* it has to claim again */
byte owns[2];                           /* the owner's memory: own as it took it */
bit  hold[2];                           /* the POP3 lock, in the owner's memory */
byte myi[2]; byte hd[2]; byte tk[2];    /* an attempt: incarnation, holder believed dead, what was written */
byte hf[2]; byte fs[2];                 /* run ids: where the holder was looked at, where the take was executed */
byte uinc[2];
byte late[2];                           /* a release under way */
bit  stop;

inline check() { assert(!(hold[0] && dl[0] > 0 && hold[1] && dl[1] > 0)) }
inline drop(n) { inc[n] = 0; dl[n] = 0; owns[n] = 0; hold[n] = 0; ninc[n] = 0 }
inline unrep() { rl[0] = 0; rl[1] = 0; ri[0] = 0; ri[1] = 0; ro = 0; rs = 0; lag = 0 }
inline touch() { if :: mwu -> mwu = 0; mw = TTL :: else fi }
/* an incarnation that nobody remembers */
#ifdef TWIN
#define OF(v, n) INC(v)
#define TAKENX(i, n) (i == mi[0] || i == ri[0] || i == OF(mo, n) || i == OF(ro, n) || i == inc[0] || i == inc[1] || i == ninc[1 - n] || \
	i == myi[0] || i == myi[1] || i == OF(hd[0], n) || i == OF(hd[1], n) || i == OF(late[0], n) || i == OF(late[1], n))
#else
#define OF(v, n) (NOD(v) == n -> INC(v) : 0)
#define TAKENX(i, n) (i == mi[n] || i == ri[n] || i == OF(mo, n) || i == OF(ro, n) || i == myi[n] || i == OF(hd[1 - n], n) || i == OF(late[n], n))
#endif

/* lease: read the clock, send; Redis runs it; the reply comes */
inline l_op(n) {
	d_step {
		touch();
		if
		:: seenf[n] != fo -> seenf[n] = fo; need[n] = (owns[n] != 0); lr[n] = 2
#ifndef M_NOCLAIM
		:: seenf[n] == fo && need[n] ->         /* claim again what is held, before the lease is renewed */
			need[n] = 0; lr[n] = 2;
			if
			:: owns[n] != 0 ->
				if
				:: mo == 0 || MINE(mo, n, inc[n]) -> mo = owns[n]
				:: else -> owns[n] = 0; hold[n] = 0
				fi
			:: else
			fi
#endif
		:: else ->
			if
			:: inc[n] != 0 ->
				if
				:: mi[KEY(n)] == inc[n] -> ml[KEY(n)] = TTL; lr[n] = 1
				:: else ->
#ifdef M_SAMEINC                /* a lapsed lease is taken again under the same incarnation, and what was owned is kept */
					if :: mi[KEY(n)] == 0 -> mi[KEY(n)] = inc[n]; ml[KEY(n)] = TTL; lr[n] = 1 :: else -> lr[n] = 0 fi
#else
					lr[n] = 0
#endif
				fi
			:: else ->
				if
#ifdef INCS                     /* a bound: no more than INCS incarnations of a node */
				:: ninc[n] == 0 && (uinc[n] < INCS || stop) -> uinc[n]++; ninc[n] = uinc[n]
#else
				:: ninc[n] == 0 -> ninc[n] = 1; do :: TAKENX(ninc[n], n) -> ninc[n]++ :: else -> break od
#endif
				:: else
				fi;
#ifdef M_SETXX                  /* the lease key is overwritten, not taken with NX */
				mi[KEY(n)] = ninc[n]; ml[KEY(n)] = TTL; lr[n] = 1
#else
				if
				:: ninc[n] == 0 -> lr[n] = 2
				:: ninc[n] != 0 && mi[KEY(n)] == 0 -> mi[KEY(n)] = ninc[n]; ml[KEY(n)] = TTL; lr[n] = 1
#ifdef M_OWNVALUE               /* the own value found there counts, but is not renewed */
				:: ninc[n] != 0 && mi[KEY(n)] == ninc[n] -> lr[n] = 1
#else
				:: ninc[n] != 0 && mi[KEY(n)] == ninc[n] -> ml[KEY(n)] = TTL; lr[n] = 1
#endif
				:: else -> lr[n] = 0
				fi
#endif
			fi
		fi
	}
}
inline l_end(n) {
	d_step {
		if
		:: lr[n] == 1 && sd[n] > 0 -> if :: inc[n] == 0 -> inc[n] = ninc[n]; ninc[n] = 0 :: else fi; dl[n] = sd[n]
		:: lr[n] == 0 && inc[n] != 0 -> drop(n)
		:: else
		fi;
		sd[n] = 0; lr[n] = 0
	}
}
/* the one script: takes the account, whoever asks for it writes a token of its own */
inline script(n, my, res) {
	d_step {
		touch();
		fs[n] = fo;
		if
		:: seenf[n] != fo -> seenf[n] = fo; need[n] = (owns[n] != 0); res = WAIT
#ifndef M_NOWAIT
		:: seenf[n] == fo && mw > 0 -> res = WAIT
#endif
		:: else ->
			if
#ifdef M_STEALOTHERMASTER       /* the holder was looked at on another master than the one that replaces it */
			:: mo == 0 || MINE(mo, n, my) || mo == hd[n] ->
#else
			:: mo == 0 || MINE(mo, n, my) || (mo == hd[n] && hf[n] == fo) ->
#endif
				tk[n] = ENC(n, my, 0);
#ifdef LATE                     /* a token of its own for each take; without late releases one will do */
				do :: tk[n] == mo || tk[n] == ro || tk[n] == late[n] -> tk[n]++ :: else -> break od;
#endif
				mo = tk[n]; res = OK
			:: else ->
				res = OWNED; hd[n] = mo;
#ifdef M_REFRESH                /* a failed attempt refreshes the holder's TTL */
				if :: mi[KEY(NOD(mo))] == INC(mo) -> ml[KEY(NOD(mo))] = TTL :: else fi
#endif
			fi
		fi
	}
}
inline holder_gone(n, gone) { d_step { touch(); hf[n] = fo; gone = (mi[KEY(NOD(hd[n]))] != INC(hd[n])) } }
#ifdef M_RELNOTOKEN             /* a release compares node and incarnation only */
#define SAME(v) (mo / 4 == (v) / 4)
#else
#define SAME(v) (mo == (v))
#endif
inline rel(n) { if :: mo == 0 || SAME(late[n]) -> mo = 0 :: else fi; late[n] = 0 }

/* One step: if the reply comes later, the deadline is no later than it is here, and a lapse found later is a lapse looked
   for later; so no run is missed but those with a lost reply, which TIMEOUT adds. */
proctype lease(byte n) provided (!stop) {
	do
	:: atomic { sd[n] = DL; l_op(n); l_end(n) }
#ifdef TIMEOUT
	:: d_step { l_op(n); lr[n] = 0 }
#endif
	od
}

inline clean(n) { hd[n] = 0; hf[n] = 0; fs[n] = 0; tk[n] = 0; myi[n] = 0; res = 0; gone = 0 }
#ifdef M_NOREPLYCHECK           /* the reply of a master that is no longer the node's counts */
#define COUNTS(n) (inc[n] == myi[n] && dl[n] > 0)
#else
#define COUNTS(n) (inc[n] == myi[n] && dl[n] > 0 && seenf[n] == fs[n])
#endif
proctype sess(byte n) provided (!stop) {
	byte res; bit gone;
	do
	/* the owner's memory decides */
	:: atomic { owns[n] != 0 && inc[n] != 0 && dl[n] > 0 && !hold[n] -> hold[n] = 1; check() }
	/* QUIT: write, sync, look, deadline, acknowledgement */
	:: atomic { hold[n] -> check(); hold[n] = 0 }
	/* the owner lets the account go */
	:: d_step { owns[n] != 0 && !hold[n] && late[n] == 0 -> late[n] = owns[n]; owns[n] = 0;
#ifndef LATE
		rel(n)
#endif
		}
#ifdef GAP                      /* a take may be executed long after it was sent */
	:: atomic { owns[n] == 0 && inc[n] != 0 && dl[n] > 0 -> myi[n] = inc[n] }
again:		atomic { script(n, myi[n], res);
#else
	:: atomic { owns[n] == 0 && inc[n] != 0 && dl[n] > 0 -> myi[n] = inc[n];
again:		script(n, myi[n], res);
#endif
			if :: res == WAIT -> clean(n) :: else fi }
		if
		:: res == 0
		:: atomic { res == OWNED -> holder_gone(n, gone); if :: gone -> gone = 0; res = 0 :: else -> clean(n) fi }
			if :: myi[n] != 0 -> goto again :: else fi
		:: atomic { res == OK ->
				if
#ifdef TIMEOUT
				:: skip                 /* the reply is lost, the client hears SYS/TEMP */
#endif
				:: COUNTS(n) -> owns[n] = tk[n]; hold[n] = 1; check()
				:: !COUNTS(n)
				fi;
				clean(n) }
		fi
	od
}

#ifdef LATE
proctype releases() provided (!stop) {
	do
	:: d_step { late[0] != 0 -> rel(0) }
	:: d_step { late[1] != 0 -> rel(1) }
#if defined(TIMEOUT) || LOSS > 0
	:: late[0] = 0
	:: late[1] = 0
#endif
	od
}
#endif

inline tick_n(n) {
	if :: ml[n] > 0 -> ml[n]-- :: else fi; if :: ml[n] == 0 -> mi[n] = 0 :: else fi;
	if :: rl[n] > 0 -> rl[n]-- :: else fi; if :: rl[n] == 0 -> ri[n] = 0 :: else fi;
	if :: sd[n] > 0 -> sd[n]-- :: else fi;
	if
	:: dl[n] > 0 -> dl[n]--
#ifdef M_MONOTONIC              /* the node's clock stands still while the node does */
	:: dl[n] > 0 -> skip
#endif
	:: else
	fi;
	if :: dl[n] == 0 -> hold[n] = 0 :: else fi      /* POP3 sessions end at the deadline */
}
inline ticks() {
	tick_n(0); tick_n(1); if :: mw > 0 -> mw-- :: else fi;
	if :: rs && lag == 0 -> unrep() :: rs && lag > 0 -> lag-- :: else fi
}
active proctype time() provided (!stop) { do :: atomic { ticks() } od }

#if LOSS > 0
/* the state that the replica will have when it is promoted is chosen at one moment; older than LAG ticks it may not be
   then (min-replicas-max-lag) */
active proctype replication() provided (!stop) {
	do
	:: d_step { fo < LOSS && !rs -> rs = 1; lag = LAG; rl[0] = ml[0]; rl[1] = ml[1]; ri[0] = mi[0]; ri[1] = mi[1]; ro = mo }
	:: d_step { fo < LOSS && rs -> fo++; ml[0] = rl[0]; ml[1] = rl[1]; mi[0] = ri[0]; mi[1] = ri[1]; mo = ro; mwu = 1; mw = 0;
		unrep() }
	od
}
#endif

#if CRASH > 0
active proctype crash() provided (!stop) {
	byte k, n;
	do
	:: k < CRASH -> atomic {
		n = 0;                  /* the nodes are alike */
		drop(n); need[n] = 0; seenf[n] = fo; k++; n = 0 }
	:: else -> break
	od
}
#endif

#ifdef SETTLE
/* faults stop, clients leave, then everybody polls */
active proctype settle() {
	byte k, n, res; bit gone, got;
	d_step {
		stop = 1; n = 0;
		do
		:: n < 2 -> hold[n] = 0; if :: late[n] != 0 -> rel(n) :: else fi; n++
		:: else -> break
		od;
		k = 0;
		do
		:: k < 4 * TTL && !got ->
			n = 0;
			do
			:: n < 2 ->
				sd[n] = DL; l_op(n); l_end(n); sd[n] = DL; l_op(n); l_end(n); sd[n] = DL; l_op(n); l_end(n);
				if
				:: inc[n] != 0 && dl[n] > 0 && owns[n] != 0 -> got = 1
				:: inc[n] != 0 && dl[n] > 0 && owns[n] == 0 ->
					hd[n] = 0; hf[n] = 0; res = 0;
					script(n, inc[n], res);
					if
					:: res == OWNED -> holder_gone(n, gone); if :: gone -> script(n, inc[n], res) :: else fi
					:: else
					fi;
					if :: res == OK -> got = 1 :: else fi
				:: else
				fi; n++
			:: else -> break
			od;
			if :: !got -> ticks() :: else fi;
			k++
		:: else -> break
		od;
		assert(got);
		/* one state for all */
		mo = 0; unrep(); mw = 0; mwu = 0; fo = 0; n = 0;
		do
		:: n < 2 -> ml[n] = 0; mi[n] = 0; drop(n); sd[n] = 0; lr[n] = 0; seenf[n] = 0; need[n] = 0;
			myi[n] = 0; hd[n] = 0; tk[n] = 0; hf[n] = 0; fs[n] = 0; late[n] = 0; uinc[n] = 0; n++
		:: else -> break
		od;
		n = 0; k = 0; res = 0; gone = 0; got = 0
	}
}
#endif

init {
	atomic {
		run lease(0); run lease(1); run sess(0); run sess(1);
#ifdef LATE
		run releases()
#endif
	}
}
