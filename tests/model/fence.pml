/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fence.pml - the fence in the store and compaction by relocation, with Redis left out
 * on purpose: every node may believe at any time that it owns the account.  So what holds here holds with Redis wrong,
 * paused or gone.
 *
 * One account.  Logs L.0 .. L.<GENS-1>; L.0 exists at the start, whole, with PRE acknowledged messages.  A file is an
 * array of records, each a commit: record 0 is the open + cut (the ends of all older logs), the rest are messages (m),
 * expunges (8 + m) and relocations (64 + live + 4 * expunged + 16 * UIDNEXT).  A write travels: the owner issues it, the
 * size grows first (a hole: a torn record that a reader can see), the bytes come later, perhaps after the owner has died.
 *
 * A name is nothing, a log or a stub.  A stub is another file, empty; whoever has the log open goes on reading it.
 * A name made anew after an unlink (by one who listed long ago) is another file too: ino.
 *
 * Steps of different nodes interleave freely, so a pause of any length between any two steps is always included.
 *
 * Switches (-D... to run.sh):
 *   NODES MSGS GENS PRE      sizes (MSGS at most 2, of which PRE are in L.0 at the start)
 *   RMAX                     relocations that one owner makes in one log (0: no compaction)
 *   CRASH POWER              node crashes; power failures (each name and each unsynced tail by itself is lost, or not)
 *   SEAL                     an owner may go on to the next log by itself, from memory
 *   READONLY                 owners seal when they let go; a session that only reads a sealed account makes no log
 *   MERGE                    the two oldest logs may also be relocated in one commit
 *   LOWFIRST                 a log is stubbed only when all lower ones are
 *   SILLY                    the rename of the stub is not atomic: for a moment the name is missing (NFS, log open at that client)
 *   NODAMAGE                 a missing log is not asserted to be no damage
 *   ASCENDING                older logs are opened lowest first (default: highest first)
 *   REOPEN                   the replay opens the logs again by name, after the cut
 *   STRICT                   asserts that names are contiguous for every owner (they are not, see README)
 *   Mutants, each a M_... name, see the README.
 */
#ifndef NODES
#define NODES 2
#endif
#ifndef MSGS
#define MSGS 2
#endif
#ifndef GENS
#define GENS 4
#endif
#ifndef PRE
#define PRE 1
#endif
#ifndef RMAX
#define RMAX 2
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifndef POWER
#define POWER 0
#endif
#define SLOTS (1 + MSGS + MSGS + RMAX + 1)
#define HOLE  0
#define CUT   31
#define SEALR 30
#define B(m)  (1 << (m))
#define NOGEN 99
#define NONE  0
#define LOG   1
#define STUB  2
#define LITTER 3                /* made anew by one who listed long ago, empty */

/* the directory and the files */
byte st[GENS + 2];              /* what the name is */
byte dur[GENS + 2];             /* and what it would be after a power failure */
byte ino[GENS + 2];             /* a name made anew is another file */
byte siz[GENS + 2];             /* size, in records, as the server shows it */
byte syn[GENS + 2];             /* records that survive a power failure */
byte rec[GENS * SLOTS];
byte ends[GENS * GENS];         /* record 0 of g: where each older log ends */

/* a write on its way, one per node */
byte pst[NODES]; byte pg[NODES]; byte ps[NODES]; byte pv[NODES]; byte pi[NODES];

/* nodes */
byte gen[NODES];                /* log owned, NOGEN = none */
bit  open_[NODES];              /* has shown its view to a session */
byte view[NODES];               /* bits: messages */
bit  die[NODES];

/* messages, and what was promised */
byte nmsg;
byte uidof[MSGS + 1];
byte ackg[MSGS + 1];            /* 1 + log that acknowledged the delivery */
byte seeng[MSGS + 1];           /* 1 + log that first showed it */
byte etry;                      /* bits: an expunge was asked for */
byte eackg[MSGS + 1];           /* 1 + log that acknowledged the expunge */
byte given[MSGS + 4];           /* UID -> the message that it was given to */

inline newest(q) { q = GENS; do :: q > 0 && st[q] == NONE -> q-- :: else -> break od }

/* (c): a UID is given to one message */
inline give(q) {
	assert(given[uidof[q]] == 0 || given[uidof[q]] == q);
	given[uidof[q]] = q
}

/* (b): what older logs acknowledged or showed is in the view; runs when the view is shown */
inline check_view(n) {
	x = 1;
	do
	:: x <= MSGS ->
		assert(!(ackg[x]  && ackg[x]  - 1 < gen[n] && !(etry & B(x)) && !(view[n] & B(x))));
		assert(!(eackg[x] && eackg[x] - 1 < gen[n] && (view[n] & B(x))));
		assert(!(seeng[x] && seeng[x] - 1 < gen[n] && !(etry & B(x)) && !(view[n] & B(x))));
		if :: view[n] & B(x) -> give(x); if :: seeng[x] == 0 -> seeng[x] = gen[n] + 1 :: else fi :: else fi;
		x++
	:: else -> break
	od; x = 0
}

/* (b) from the other side: at an acknowledgement no newer owner has shown a view without it */
inline check_ack(n, q, want) {
	x = 0;
	do
	:: x < NODES ->
		if
		:: x != n && gen[x] != NOGEN && gen[x] > gen[n] && open_[x] ->
			if
			:: want  -> assert((view[x] & B(q)) || (etry & B(q)))
			:: else  -> assert(!(view[x] & B(q)))
			fi
		:: else
		fi; x++
	:: else -> break
	od; x = 0
}

/* issue one record, wait for the write, then fdatasync */
inline put(n, v) {
	d_step { pst[n] == 0 -> pst[n] = 1; pg[n] = gen[n]; ps[n] = mylen; pv[n] = v; pi[n] = myino; mylen++ }
	d_step { pst[n] == 0 -> if :: ino[gen[n]] == myino && syn[gen[n]] < mylen -> syn[gen[n]] = mylen :: else fi }
}

#define OWNGONE(n) (!(st[gen[n]] == LOG && ino[gen[n]] == myino))
/* the look after each sync: bad = 1 means fenced */
inline look(n) {
#ifdef M_NOCHECK
	bad = 0;
#else
#ifdef M_LOOKORDER              /* the own file first, then the next name */
	d_step { bad = OWNGONE(n) }
	d_step { bad = (bad || st[gen[n] + 1] != NONE) }
#else
#ifdef M_STUBFREES              /* a stub under the next name does not count */
	d_step { bad = (st[gen[n] + 1] == LOG) }
#else
	d_step { bad = (st[gen[n] + 1] != NONE) }
#endif
#ifdef M_OWNBYNAME              /* asks whether the own name exists, not whether the own file has a name */
	d_step { bad = (bad || st[gen[n]] == NONE) }
#else
#ifndef M_NOOWN
	d_step { bad = (bad || OWNGONE(n)) }
#endif
#endif
#endif
#endif
}

inline dirsync() { d_step { x = 0; do :: x < GENS -> dur[x] = st[x]; x++ :: else -> break od; x = 0 } }

inline mk(q) {
#ifndef M_NORELIST              /* a number made anew stays empty; who has the first file open goes on reading that */
	if
	:: ino[q] > 0 -> st[q] = LITTER; ino[q]++; myino = ino[q]; mylen = 0
	:: else ->
#endif
	st[q] = LOG; ino[q]++; siz[q] = 0; syn[q] = 0; x = 0;
	do :: x < SLOTS -> rec[(q) * SLOTS + x] = HOLE; x++ :: else -> break od;
	x = 0;
	do :: x < GENS -> ends[(q) * GENS + x] = 0; x++ :: else -> break od;
	x = 0; myino = ino[q]; mylen = 0
#ifndef M_NORELIST
	fi
#endif
}

/* what the records 0 .. e-1 of log j hold: messages into z, expunges into w */
inline holds(j, e) {
	y = 0; z = 0; w = 0;
	do
	:: y < e ->
		if
		:: rec[(j) * SLOTS + y] >= 64 -> z = z | ((rec[(j) * SLOTS + y] & 3) << 1); w = w | (((rec[(j) * SLOTS + y] >> 2) & 3) << 1)
		:: rec[(j) * SLOTS + y] >= 1 && rec[(j) * SLOTS + y] <= MSGS -> z = z | B(rec[(j) * SLOTS + y])
		:: rec[(j) * SLOTS + y] > 8 && rec[(j) * SLOTS + y] < SEALR -> w = w | B(rec[(j) * SLOTS + y] - 8)
		:: else
		fi; y++
	:: else -> break
	od; y = 0
}

/* apply records 0 .. e-1 of log j to the view */
inline apply(n, j, e) {
	y = 0;
	do
	:: y < e ->
		z = rec[(j) * SLOTS + y];
		if
		:: z >= 64 -> view[n] = (view[n] | ((z & 3) << 1)) & (15 ^ (((z >> 2) & 3) << 1)); if :: ((z >> 4) & 3) > nx -> nx = (z >> 4) & 3 :: else fi
		:: z >= 1 && z <= MSGS -> view[n] = view[n] | B(z); if :: uidof[z] >= nx -> nx = uidof[z] + 1 :: else fi
		:: z > 8 && z < SEALR -> view[n] = view[n] & (15 ^ B(z - 8))
		:: else
		fi; y++
	:: else -> break
	od; y = 0; z = 0
}

/* open one older log and find its end; the newest whole cut says where all older ones end */
inline rdone(h) {
	if
	:: st[h] == LOG ->
		fl = fl | B(h); y = 0;
		do :: y < siz[h] && rec[h * SLOTS + y] != HOLE -> y++ :: else -> break od;
#ifndef M_NOOLDSYNC             /* M_NOOLDSYNC: the new owner does not sync what it read */
		if :: syn[h] < y -> syn[h] = y :: else fi;
#endif
		if :: (covered >> h) & 1 -> skip :: else -> le[h] = y fi;
		if
		:: y > 0 && !((covered >> h) & 1) ->
			x = 0;
			do :: x < h -> le[x] = ends[h * GENS + x]; covered = covered | B(x); if :: le[x] > 0 && (seen0 & B(x)) -> miss = miss | B(x) :: else fi; x++ :: else -> break od;
			x = 0
		:: else
		fi; y = 0
	:: else ->                      /* a stub, or unlinked: nothing in it */
		if :: st[h] == NONE -> seen0 = seen0 | B(h); if :: le[h] > 0 -> miss = miss | B(h) :: else fi :: else fi;
		le[h] = 0; fl = fl & (255 ^ B(h))
	fi
}
inline rdlogs(n, q) {
	d_step { fl = 0; covered = 0; nx = 1; x = 0; do :: x < GENS -> le[x] = 0; x++ :: else -> break od; x = 0; g = 0 }
	do
	:: g == q -> break
#ifdef ASCENDING
	:: d_step { g < q -> rdone(g); g++ }
#else
	:: d_step { g < q -> g++; rdone((q - g)) }
#endif
	od; skip;
#ifdef ASCENDING
	/* a stub that was read before the cut above it was known ends at nothing */
	d_step { x = 0; do :: x < GENS -> if :: (fl & B(x)) == 0 -> le[x] = 0 :: else fi; x++ :: else -> break od; x = 0 }
#endif
	d_step { check_names(q); covered = 0; seen0 = 0 }
}
inline replay(n, q) {
	d_step {
		view[n] = 0; nx = 1; x = 0;
		do
		:: x < q ->
#ifdef REOPEN
			if :: (fl & B(x)) && st[x] == LOG -> apply(n, x, le[x]) :: else fi;
#else
			if :: fl & B(x) -> apply(n, x, le[x]) :: else fi;
#endif
			x++
		:: else -> break
		od; x = 0
	}
}

/* a log that the newest whole cut gives an end is damage if it is missing while a lower such log is there */
inline check_names(q) {
	x = 0; y = 0;
	do
	:: x < q ->
		if
		:: (fl & B(x)) && le[x] > 0 -> y = 1
	#ifdef NODAMAGE
		:: (miss & B(x)) && y -> skip
#else
		:: (miss & B(x)) && y -> assert(false)
#endif
		:: else
		fi; x++
	:: else -> break
	od; x = 0; y = 0; miss = 0
}
#ifdef STRICT                   /* any gap in the listing is damage */
inline check_strict(q) {
	x = q; y = 0;
	do
	:: x > 0 -> x--; if :: st[x] == NONE -> y = 1 :: st[x] != NONE && y -> assert(false) :: else fi
	:: else -> break
	od; x = 0; y = 0
}
#endif

inline letgo(n) {
	d_step { gen[n] = NOGEN; open_[n] = 0; view[n] = 0; bad = 0; g = 0; m = 0; k = 0; nx = 0; mylen = 0; myino = 0; fl = 0; kst = 0; nrel = 0; covered = 0; miss = 0; seen0 = 0; x = 0; do :: x < GENS -> le[x] = 0; x++ :: else -> break od; x = 0; y = 0; z = 0; w = 0 }
}

proctype node(byte n) {
	byte g, m, k, nx, mylen, myino, x, y, z, w, fl, kst, nrel, covered, miss, seen0; byte le[GENS];
	bit bad;
idle:
	letgo(n);
	{
	do
#ifdef READONLY                 /* a session that only reads a sealed account makes no log */
	::	d_step { newest(k); myino = ino[k];
			bad = !(st[k] == LOG && siz[k] > 1 && rec[k * SLOTS + siz[k] - 1] == SEALR && syn[k] == siz[k]) }
		if :: bad -> goto idle :: else fi;
		rdlogs(n, k + 1); replay(n, k + 1);
#ifndef M_RONOLOOK
		d_step { bad = (st[k + 1] != NONE) }
		d_step { bad = (bad || st[k] != LOG || ino[k] != myino) }
		if :: bad -> goto idle :: else fi;
#endif
		d_step { gen[n] = k + 1; check_view(n); gen[n] = NOGEN }
		goto idle
#endif
	::	d_step { newest(k) }                            /* list the directory */
		if
		:: d_step { k + 1 < GENS && st[k + 1] == NONE -> mk(k + 1); gen[n] = k + 1; k = 0 }
		:: k + 1 < GENS && st[k + 1] != NONE -> goto idle
		:: k + 1 >= GENS -> goto done
		fi;
#ifndef M_NODIRSYNC
		dirsync();
#endif
		d_step {
#ifndef M_NORELIST              /* M_NORELIST: do not list again after the create */
			newest(y); bad = (y != gen[n]); y = 0;
#endif
#ifdef STRICT
			if :: !bad -> check_strict(gen[n]) :: else fi;
#endif
			x = 0; kst = 0; do :: x < gen[n] -> if :: st[x] != LOG -> kst = kst | B(x) :: else fi; x++ :: else -> break od; x = 0
		}
		if :: bad -> goto idle :: else fi;
		d_step { assert(st[gen[n]] != LITTER || ino[gen[n]] != myino); skip }
		rdlogs(n, gen[n]);
		d_step { x = 0; do :: x < GENS -> ends[gen[n] * GENS + x] = le[x]; x++ :: else -> break od; x = 0; g = 0 }
		put(n, CUT);
		look(n);
		if :: bad -> goto idle :: else fi;
		replay(n, gen[n]);
#if defined(REOPEN) && !defined(M_REOPENNOLOOK)  /* what is replayed by name after the cut needs another look */
		look(n);
		if :: bad -> goto idle :: else fi;
#endif
		d_step { check_view(n); open_[n] = 1 }
serve:		do
		:: d_step { nmsg <= MSGS -> m = nmsg; nmsg++; uidof[m] = nx; nx++ }
			put(n, m); look(n);
			if :: bad -> goto idle :: else fi;
			d_step { view[n] = view[n] | B(m); check_ack(n, m, 1); ackg[m] = gen[n] + 1; give(m); seeng[m] = gen[n] + 1; m = 0 }
		:: d_step { view[n] & (15 ^ etry) ->
				m = 1; do :: m < MSGS && !(view[n] & (15 ^ etry) & B(m)) -> m++ :: else -> break od;
				etry = etry | B(m) }
			put(n, 8 + m); look(n);
			if :: bad -> goto idle :: else fi;
			d_step { view[n] = view[n] & (15 ^ B(m)); check_ack(n, m, 0); eackg[m] = gen[n] + 1; m = 0 }
#if RMAX > 0
		:: nrel < RMAX && (kst + 1 < B(gen[n])) ->      /* relocate one sealed log, any that is not a stub yet */
			k = 0;
			do
			:: k < gen[n] && !(kst & B(k)) -> break
#ifdef LOWFIRST                 /* lowest first */
			:: d_step { kst & B(k) -> k++ }
#else
			:: d_step { (kst >> (k + 1)) + 1 < B(gen[n] - k - 1) -> k++ }
#endif
			od; skip;
			d_step {
				nrel++;
				/* every message of it that is alive; every expunge of it whose message lies in another log too */
				holds(k, le[k]); m = z & view[n]; g = w & (15 ^ view[n]); x = 0; covered = 0;
				do
				:: x < gen[n] -> if :: x != k && !(kst & B(x)) && (fl & B(x)) -> holds(x, le[x]); covered = covered | z :: else fi; x++
				:: else -> break
				od;
				g = g & covered; covered = 0; x = 0; z = 0; w = 0;
#ifdef M_NOTOMB                 /* expunges are not relocated */
				g = 0;
#endif
				m = 64 + (m >> 1) + ((g >> 1) << 2);
#ifndef M_NOUIDNEXT
				m = m + (nx << 4);
#endif
				g = 0
			}
#ifdef M_RENAMEFIRST            /* the stub comes before the relocation */
			d_step { st[k] = STUB }
#endif
			put(n, m);
#ifdef M_STUBNOLOOK             /* the stub comes before the look */
			d_step { st[k] = STUB }
#endif
			look(n);
			if :: bad -> goto idle :: else fi;
#ifdef SILLY                    /* an NFS client that holds the old log open first renames it away, then renames the stub */
			d_step { st[k] = NONE }
#endif
			d_step { st[k] = STUB; m = 0 }
#ifndef M_NOSTUBSYNC            /* M_NOSTUBSYNC: the stub counts before the directory is synced */
			dirsync();
#endif
			d_step { kst = kst | B(k); k = 0 }
#ifdef MERGE
		:: d_step { nrel < RMAX && gen[n] >= 2 && !(kst & 3) -> /* the two oldest in one commit, two stubs after one look */
				nrel++; holds(0, le[0]); m = z; holds(1, le[1]); m = (m | z) & view[n]; z = 0; w = 0;
				m = 64 + (m >> 1) + (nx << 4) }
			put(n, m); look(n);
			if :: bad -> goto idle :: else fi;
#ifdef SILLY
			d_step { st[0] = NONE }
#endif
			d_step { st[0] = STUB; m = 0 }
#ifdef SILLY
			d_step { st[1] = NONE }
#endif
			d_step { st[1] = STUB }
			dirsync();
			d_step { kst = kst | 3 }
#endif
		:: d_step { (kst & 1) ->                        /* unlink the lowest stub, if all below are gone */
				k = 0; do :: k < gen[n] && st[k] == NONE -> k++ :: else -> break od;
				bad = !(k < gen[n] && (st[k] == STUB || st[k] == LITTER) && (kst & B(k))) }
#ifdef M_DESCENDING             /* unlinks the highest stub first */
			d_step { k = gen[n] - 1; do :: k > 0 && st[k] == NONE -> k-- :: else -> break od; bad = (st[k] != STUB) }
#endif
			if :: !bad -> d_step { st[k] = NONE } :: else -> skip fi;
			d_step { bad = 0; k = 0 }
#endif
#ifdef SEAL
		:: d_step { gen[n] + 1 < GENS ->                /* go on to the next log, from memory */
				if
				:: st[gen[n] + 1] != NONE -> bad = 1
				:: else ->
					le[gen[n]] = mylen; fl = fl | B(gen[n]); gen[n] = gen[n] + 1; mk(gen[n]); nrel = 0
				fi }
			if :: bad -> goto idle :: else fi;
			dirsync();
			d_step { newest(y); bad = (y != gen[n]); y = 0; x = 0; do :: x < GENS -> ends[gen[n] * GENS + x] = le[x]; x++ :: else -> break od; x = 0 }
			if :: bad -> goto idle :: else fi;
			put(n, CUT); look(n);
			if :: bad -> goto idle :: else fi
#endif
#ifdef READONLY
		::	put(n, SEALR); goto idle                /* gives the account up with a seal: its last word in this log */
#else
		:: goto idle                                    /* gives the account up */
#endif
		od
	od
	} unless { die[n] };
	if :: d_step { die[n] -> die[n] = 0 } goto idle fi;
done:
	skip
}

/* writes land: the size first, then the bytes */
proctype disk(byte n) {
	end: do
	:: d_step { pst[n] == 1 ->
		if :: ino[pg[n]] == pi[n] && siz[pg[n]] <= ps[n] -> siz[pg[n]] = ps[n] + 1 :: else fi; pst[n] = 2 }
	:: d_step { pst[n] == 2 ->
		if :: ino[pg[n]] == pi[n] -> rec[pg[n] * SLOTS + ps[n]] = pv[n] :: else fi;
		pst[n] = 0; pg[n] = 0; ps[n] = 0; pv[n] = 0; pi[n] = 0 }
	od
}

#if CRASH > 0
active proctype crashes() {
	byte n, k;
	do
	:: k < CRASH -> atomic { n = 0; do :: n < NODES - 1 -> n++ :: break od; die[n] = 1; n = 0; k++ }
	:: break
	od
}
#endif

#if POWER > 0
active proctype power() {
	byte n, k;
	do
	:: k < POWER -> atomic {
		n = 0;
		do
		:: n < NODES -> die[n] = 1; pst[n] = 0; pg[n] = 0; ps[n] = 0; pv[n] = 0; pi[n] = 0; gen[n] = NOGEN; open_[n] = 0; n++
		:: else -> break
		od;
		n = 0;
		do
		:: n < GENS ->
			if
			:: st[n] != dur[n] ->
				if
				:: st[n] = dur[n]
				:: dur[n] = st[n]
				:: st[n] != STUB && dur[n] == LOG -> st[n] = STUB; dur[n] = STUB
				:: st[n] == LITTER -> st[n] = NONE; dur[n] = NONE
				fi
			:: else
			fi;
			do
			:: siz[n] > syn[n] -> siz[n] = siz[n] - 1; rec[n * SLOTS + siz[n]] = HOLE
			:: break
			od;
			syn[n] = siz[n]; if :: st[n] == NONE -> ino[n] = 0 :: else fi; n++     /* nobody has it open any more */
		:: else -> break
		od; n = 0; k++ }
	:: break
	od
}
#endif

init {
	byte i;
	d_step {
		st[0] = LOG; dur[0] = LOG; ino[0] = 1; rec[0] = CUT;
		i = 1; do :: i <= PRE -> rec[i] = i; uidof[i] = i; ackg[i] = 1; seeng[i] = 1; given[i] = i; i++ :: else -> break od;
		siz[0] = 1 + PRE; syn[0] = 1 + PRE; nmsg = 1 + PRE; i = 0;
		do :: i < NODES -> gen[i] = NOGEN; i++ :: else -> break od; i = 0
	}
	atomic { do :: i < NODES -> run node(i); run disk(i); i++ :: else -> break od }
}
