# SPDX-License-Identifier: Apache-2.0
"""A mailbox in memory, and sessions whose every response is held against it: the machinery of test_imap_model.py.

An operation is (kind, session, number): what it does exactly is drawn from Random(number) and from the state it meets. So a run can
be told by its list of operations, and operations can be left out of it (shrink) while the others keep their sense.

One operation runs at a time, but sessions in IDLE are told of each one at once, and all others when they speak next. What is
checked: numbers and UIDs of every EXPUNGE, VANISHED, EXISTS and FETCH, where expunges may be told at all; flags after every command, as a
client believes them (with .SILENT it reckons them itself); that equal MODSEQs mean equal flags, and that they rise; COPYUID, APPENDUID, UIDNEXT,
UIDVALIDITY, STATUS, LIST, LSUB, SEARCH; a cache brought up to date by QRESYNC against a full fetch; POP3's UIDs.
"""
import random
import re
import socket
import time

from penfold import PASSWORD

NAMES = ['A', 'A/x', 'A/x/y', 'B', 'B/z', 'C d']
FLAGS = [r'\Seen', r'\Answered', r'\Flagged', r'\Deleted', r'\Draft', 'k1', '$k2']
WAIT_S = 15  # for an answer, on the busiest machine
MODES = ['plain', 'condstore', 'qresync', 'rev2']


class Wrong(AssertionError):
    """The server said something else than the model."""


def need(truth, *words):
    if not truth:
        raise Wrong(' '.join(str(w) for w in words))


def uid_set(text):
    out = []
    for part in text.split(','):
        first, _, last = part.partition(':')
        out += range(int(first), int(last or first) + 1)
    return out


def as_set(numbers):
    return ','.join(str(n) for n in numbers)


class Msg:
    def __init__(self, number, flags=()):
        self.number, self.flags = number, frozenset(flags)
        self.modseq, self.floor = None, 0  # as it was told; what it must be at least

    def change(self, flags):
        self.flags = frozenset(flags)
        self.floor, self.modseq = self.modseq or self.floor, None

    def told_modseq(self, n):
        need(n == self.modseq if self.modseq else n >= max(self.floor, 1), 'MODSEQ', n, 'where it was', self.modseq, self.floor)
        self.modseq = n


class Folder:
    def __init__(self):
        self.msgs, self.uidnext, self.validity, self.modseq, self.deleted = {}, 1, None, 0, False

    def add(self, msg):
        self.msgs[self.uidnext] = msg
        self.uidnext += 1
        return self.uidnext - 1

    def told_validity(self, n):
        need(n > 0, 'UIDVALIDITY', n)
        need(self.validity in (None, n), 'UIDVALIDITY', n, 'was', self.validity)
        self.validity = n

    def told_modseq(self, n):
        need(n >= self.modseq, 'HIGHESTMODSEQ fell', n, self.modseq)
        self.modseq = n

    def shape(self):
        return [(uid, m.number, m.flags) for uid, m in self.msgs.items()]


class Session:
    """A connection, and what its client knows: view (UIDs by number), known (flags by UID; None: not told), caches by folder."""

    def __init__(self, world, mode):
        self.world, self.mode = world, mode
        self.caches, self.asked = {}, False  # asked: FETCH, whose client says what it wants
        self.s = None
        self.open()

    def open(self):
        self.folder, self.ro, self.view, self.known, self.idle = None, False, [], {}, None
        self.s = socket.create_connection(('127.0.0.1', self.world.server.imap_port), WAIT_S)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f, self.n = self.s.makefile('rb'), 0
        self.f.readline()
        self.ok(f'LOGIN {self.world.address} "{PASSWORD}"')
        on = {'condstore': 'CONDSTORE', 'qresync': 'QRESYNC', 'rev2': 'IMAP4rev2'}.get(self.mode)
        if on:
            self.ok('ENABLE ' + on)

    def close(self):
        self.s.close()
        self.f.close()

    def modseqs(self):
        return self.mode in ('condstore', 'qresync')

    def send(self, text):
        self.n += 1
        self.world.note(f'{self.world.sessions.index(self) if self in self.world.sessions else "?"}> {text}')
        self.s.sendall(f't{self.n} {text}\r\n'.encode())
        return f't{self.n}'

    def line(self):
        """A response with its literals, as text."""
        out = b''
        while True:
            line = self.f.readline()
            if not line:
                raise ConnectionError('closed')
            out += line
            m = re.search(rb'\{(\d+)\}\r\n$', line)
            if not m:
                break
            out += self.f.read(int(m[1]))
        out = out.rstrip(b'\r\n').decode()
        self.world.note(f'{self.world.sessions.index(self) if self in self.world.sessions else "?"}< {out!r}')
        return out

    def until(self, tag):
        lines = []
        while True:
            line = self.line()
            if line.startswith(tag + ' '):
                return lines, line[len(tag) + 1:]
            lines.append(line)

    def cmd(self, text):
        return self.until(self.send(text))

    def ok(self, text):
        lines, end = self.cmd(text)
        need(end.startswith('OK'), text, end)
        return lines

    # ---- what is told ----
    def absorb(self, lines, expunge=True, strict=True):
        """Takes in what is told of the selected folder; gives back the rest."""
        rest = []
        for line in lines:
            m = re.match(r'\* (?:(\d+) (EXPUNGE|EXISTS|RECENT|FETCH)|VANISHED) ?(.*)', line, re.S)
            if not m or m[3].startswith('(EARLIER)'):
                rest.append(line)
                continue
            need(self.folder, 'told without a selected folder:', line)
            n, what = int(m[1] or 0), m[2] or 'VANISHED'
            if what == 'EXPUNGE':
                need(expunge and self.mode != 'qresync', 'EXPUNGE not allowed', line)
                need(1 <= n <= len(self.view), line, len(self.view))
                self.lose(self.view[n - 1])
            elif what == 'VANISHED':
                need(expunge and self.mode == 'qresync', 'VANISHED not allowed', line)
                for uid in uid_set(m[3]):
                    need(uid in self.view, line, self.view)
                    self.lose(uid)
            elif what == 'EXISTS':
                need(n >= len(self.view), line, len(self.view))
                new = [uid for uid in self.folder.msgs if not self.view or uid > self.view[-1]]
                need(len(self.view) + len(new) == n, line, 'known', self.view, 'new', new)
                self.view += new
                self.known.update((uid, None) for uid in new)
            elif what == 'FETCH':
                rest += self.fetched(n, m[3], strict)
        return rest

    def lose(self, uid):
        need(uid not in self.folder.msgs, 'told to be gone and is not:', uid)
        self.view.remove(uid)
        self.known.pop(uid)

    def fetched(self, n, text, strict):
        need(1 <= n <= len(self.view), 'FETCH of', n, text)
        uid = self.view[n - 1]
        m = re.search(r'\bUID (\d+)', text)
        need(not m or int(m[1]) == uid, 'UID of', n, 'is', uid, text)
        msg = self.folder.msgs.get(uid)
        seq = re.search(r'MODSEQ \((\d+)\)', text)
        if seq and msg and strict:
            msg.told_modseq(int(seq[1]))
        if flags := re.search(r'FLAGS \(([^)]*)\)', text):
            self.known[uid] = frozenset(flags[1].split())
            need(msg is None or not strict or msg.flags == self.known[uid], 'flags of', uid, msg and msg.flags, text)
            need(seq or self.asked or not self.modseqs(), 'no MODSEQ', text)
        return [f'{uid} {text}']

    def settle(self, all_told):
        """What the client believes is so: all of it, or (behind FETCH, STORE, SEARCH by number) the flags of what it knows."""
        if not self.folder or self.folder.deleted:
            return
        if all_told:
            need(self.view == list(self.folder.msgs), 'believes', self.view, 'there is', list(self.folder.msgs))
        for uid in self.view:
            msg = self.folder.msgs.get(uid)
            need(msg is None or self.known[uid] in (None, msg.flags), 'believes of', uid, self.known[uid], 'it is', msg and msg.flags)

    def settled(self):
        try:
            self.settle(True)
            return True
        except Wrong:
            return False

    def run(self, text, all_told=True, allowed=('OK',)):
        """A command to its end, checked; (rest of the responses, tagged line)."""
        lines, end = self.cmd(text)
        need(end.split(' ')[0] in allowed, text, end)
        rest = self.absorb(lines, expunge=all_told)
        return rest, end

    # ---- IDLE ----
    def drain_idle(self):
        """In IDLE everything is told by itself."""
        while self.idle and self.folder and not self.folder.deleted and not self.settled():
            try:
                self.absorb([self.line()], strict=False)
            except socket.timeout:
                self.settle(True)


class World:
    """One account: folders by name, subscriptions, sessions; and the operations."""

    def __init__(self, server, name, modes=MODES):
        self.server, self.name, self.address = server, name, server.address(name)
        self.folders = {'INBOX': Folder()}
        self.number, self.story = 0, []
        self.sessions = []
        for mode in modes:
            self.sessions.append(Session(self, mode))
        s = self.sessions[0]
        self.folders.update((n, Folder()) for n in self.listed(s.ok('LIST "" *')) - {'INBOX'})
        self.subs = self.listed(s.ok('LSUB "" *'))

    def note(self, text):
        self.story.append(text)

    def close(self):
        for s in self.sessions:
            s.close()

    def text(self, number):
        return f'From: a@remote.example\r\nSubject: {number}\r\n\r\nText {number}.\r\n'

    def step(self, op):
        kind, who, number = op
        rng, s = random.Random(number), self.sessions[who % len(self.sessions)]
        self.note(f'-- {op}')
        if s.idle and kind not in ('idle', 'lmtp', 'pop3', 'restart', 'kill', 'reconnect'):
            self.op_idle(s, rng)
        if s.folder and s.folder.deleted and kind not in ('lmtp', 'pop3', 'restart', 'kill', 'select', 'reconnect'):
            if s.idle:
                self.op_idle(s, rng)
            if kind == 'idle':
                return
            _, end = s.cmd('UNSELECT')  # its messages may be gone: all that is left is to leave
            need(end.startswith('OK'), end)
            s.folder = None
        getattr(self, 'op_' + kind)(s, rng)
        for other in self.sessions:
            other.drain_idle()

    def pick_folder(self, rng, new=0.1):
        return rng.choice(NAMES) if rng.random() < new else rng.choice(sorted(self.folders))

    def selected(self, s, rng):
        if not s.folder:
            self.op_select(s, rng)
        return s.folder is not None

    def some(self, s, rng):
        """(uid?, set as text, UIDs) of the view; numbers and UIDs, lists, ranges and stars."""
        uid, view = rng.random() < .5, s.view
        if not view:
            return True, '1:*', []
        if rng.random() < .3:
            i, j = sorted(rng.choices(range(len(view)), k=2))
            picked = view[i:j + 1]
            text = f'{picked[-1]}:{picked[0]}' if uid else f'{i + 1}:{"*" if j == len(view) - 1 else j + 1}'
        else:
            picked = sorted(rng.sample(view, min(len(view), rng.randint(1, 5))))
            text = as_set(picked) if uid else as_set(view.index(u) + 1 for u in picked)
        return uid, text, picked

    # ---- folders ----
    def op_select(self, s, rng):
        name, ro = self.pick_folder(rng), rng.random() < .15
        self.select(s, name, ro, rng.random() < .8)

    def select(self, s, name, ro, resync):
        folder = self.folders.get(name)
        cache = s.caches.get(folder) if resync and s.mode == 'qresync' else None
        s.folder, s.view, s.known = None, [], {}
        more = f' (QRESYNC ({cache[0]} {cache[1]}{" 1:" + str(max(cache[2])) if cache[2] and cache[1] % 2 else ""}))' if cache else ''
        lines, end = s.cmd(f'{"EXAMINE" if ro else "SELECT"} "{name}"{more}')
        need(end.startswith('OK' if folder else 'NO'), name, end)
        if not folder:
            return
        need(('READ-ONLY' in end) == ro, end)
        text = '\n'.join(lines)
        folder.told_validity(int(re.search(r'UIDVALIDITY (\d+)', text)[1]))
        modseq = int(re.search(r'HIGHESTMODSEQ (\d+)', text)[1])
        folder.told_modseq(modseq)
        need(int(re.search(r'UIDNEXT (\d+)', text)[1]) == folder.uidnext, text, folder.uidnext)
        need(int(re.search(r'\* (\d+) EXISTS', text)[1]) == len(folder.msgs), text, len(folder.msgs))
        unseen = [i + 1 for i, m in enumerate(folder.msgs.values()) if r'\Seen' not in m.flags]
        if s.mode != 'rev2':
            told = re.search(r'\[UNSEEN (\d+)\]', text)
            need((int(told[1]) if told else None) == (unseen[0] if unseen else None), text, unseen)
        s.folder, s.ro, s.view = folder, ro, list(folder.msgs)
        s.known = dict.fromkeys(s.view)
        rest = s.absorb([line for line in lines if re.match(r'\* (\d+ FETCH|VANISHED)', line)])
        if cache:
            flags = cache[2]
            for line in rest:
                if line.startswith('* VANISHED (EARLIER) '):
                    for uid in uid_set(line[21:]):
                        need(uid not in folder.msgs, line)
                        flags.pop(uid, None)
                else:
                    uid = int(line.split()[0])
                    flags[uid] = s.known[uid]
            s.known.update((uid, f) for uid, f in flags.items() if uid in s.known)
            need(set(flags) <= set(folder.msgs), 'the cache holds what has gone', set(flags) - set(folder.msgs))
            s.settle(True)
            if not more.count(' 1:'):
                need(flags == {uid: m.flags for uid, m in folder.msgs.items()}, 'cache', flags, folder.shape())
        else:
            need(not rest, rest)
        s.resumed = modseq

    def op_unselect(self, s, rng):
        if not self.selected(s, rng):
            return
        if s.mode == 'qresync':
            # its cache, as a client writes it down: all flags known, the highest MODSEQ seen when all was told
            s.run('NOOP')
            rest, _ = s.run('UID FETCH 1:* (FLAGS MODSEQ)')
            s.settle(True)
            seqs = [m.modseq for m in s.folder.msgs.values()]
            s.caches[s.folder] = (s.folder.validity, max([s.resumed] + seqs), dict(s.known))
        how = rng.choice(['UNSELECT', 'CLOSE', 'drop'])
        self.note(how)
        if how == 'drop':
            self.op_reconnect(s, rng)
            return
        lines, end = s.cmd(how)
        need(end.startswith('OK') and not lines, how, end, lines)
        if how == 'CLOSE' and not s.ro:
            self.expunge(s, s.view)
        s.folder = None

    def op_create(self, s, rng):
        name = rng.choice(NAMES)
        lines, end = s.run(f'CREATE "{name}"', allowed=('OK', 'NO'))
        need(end.startswith('NO [ALREADYEXISTS]' if name in self.folders else 'OK'), name, end)
        if name not in self.folders:
            self.folders[name] = Folder()
        s.settle(True)

    def op_delete(self, s, rng):
        name = self.pick_folder(rng, .3)
        lines, end = s.cmd(f'DELETE "{name}"')
        s.absorb([line for line in lines if 'CLOSED' not in line])
        there = name in self.folders and name != 'INBOX'
        need(end.startswith('OK' if there else 'NO'), name, end)
        if there:
            folder = self.folders.pop(name)
            folder.deleted = True
            if s.folder is folder:
                s.folder = None
            for x in self.sessions:
                x.caches.pop(folder, None)

    def op_rename(self, s, rng):
        old, new = self.pick_folder(rng, .3), rng.choice(NAMES)
        names = [n for n in self.folders if n == old or n.startswith(old + '/')] if old != 'INBOX' else ['INBOX']
        moved = {n: new + n[len(old):] for n in names}
        good = names and new not in self.folders and not new.startswith(old + '/') and new != old
        # two trees are not made one
        clash = good and old != 'INBOX' and any(n not in names and n.startswith(new + '/') for n in self.folders)
        lines, end = s.cmd(f'RENAME "{old}" "{new}"')
        need(end.startswith('OK' if good and not clash else 'NO'), old, new, end, sorted(self.folders))
        if good and not clash and old == 'INBOX':
            self.folders[new] = Folder()
            for uid in list(self.folders['INBOX'].msgs):
                self.copy(self.folders['INBOX'].msgs.pop(uid), self.folders[new])
        elif good and not clash:
            kept = {n: self.folders.pop(n) for n in names}
            self.folders.update((moved[n], f) for n, f in kept.items())
        s.absorb(lines)
        if good and not clash:  # what of subscriptions then, RFC 9051 section 6.3.6 leaves open
            self.subs = self.listed(s.run('LSUB "" *')[0])
        s.run('NOOP')
        s.settle(True)

    def op_subscribe(self, s, rng):
        name, on = rng.choice(NAMES + ['INBOX']), rng.random() < .6
        s.run(f'{"SUBSCRIBE" if on else "UNSUBSCRIBE"} "{name}"')
        (self.subs.add if on else self.subs.discard)(name)
        s.settle(True)

    @staticmethod
    def listed(lines):
        out = set()
        for line in lines:
            m = re.match(r'\* (?:LIST|LSUB) \((.*?)\) "/" "?([^"]*)"?$', line)
            if m and r'\NonExistent' not in m[1] and r'\Noselect' not in m[1]:
                out.add(m[2])
        return out

    def op_list(self, s, rng):
        rest, _ = s.run('LIST "" *')
        need(self.listed(rest) == set(self.folders), rest, sorted(self.folders))
        s.settle(True)
        rest, _ = s.run('LSUB "" *')
        need(self.listed(rest) == self.subs, rest, self.subs)

    def op_status(self, s, rng):
        name = self.pick_folder(rng)
        items = 'MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ' + (' DELETED' if s.mode == 'rev2' else '')
        rest, end = s.run(f'STATUS "{name}" ({items})', allowed=('OK', 'NO'))
        folder = self.folders.get(name)
        need(end.startswith('OK' if folder else 'NO'), name, end)
        s.settle(True)
        if folder:
            v = {k: int(n) for k, n in re.findall(r'([A-Z]+) (\d+)', next(r for r in rest if r.startswith('* STATUS')).rsplit('(', 1)[1])}
            folder.told_validity(v['UIDVALIDITY'])
            folder.told_modseq(v['HIGHESTMODSEQ'])
            need(v['MESSAGES'] == len(folder.msgs) and v['UIDNEXT'] == folder.uidnext, v, len(folder.msgs), folder.uidnext)
            need(v['UNSEEN'] == sum(r'\Seen' not in m.flags for m in folder.msgs.values()), v)
            need(v.get('DELETED', 0) == (sum(r'\Deleted' in m.flags for m in folder.msgs.values()) if 'DELETED' in v else 0), v)

    # ---- messages ----
    def copy(self, msg, folder):
        new = Msg(msg.number, msg.flags)
        return folder.add(new)

    def append_text(self, rng):
        out, msgs = '', []
        for _ in range(rng.randint(1, 3)):
            self.number += 1
            flags = rng.sample(FLAGS, rng.randint(0, 2))
            text = self.text(self.number)
            out += f' ({" ".join(flags)}) {{{len(text)}+}}\r\n{text}'
            msgs.append(Msg(self.number, flags))
        return out, msgs

    def op_append(self, s, rng):
        name = self.pick_folder(rng)
        text, msgs = self.append_text(rng)
        tag = s.send(f'APPEND "{name}"{text}')
        folder = self.folders.get(name)
        uids = [folder.add(m) for m in msgs] if folder else []
        lines, end = s.until(tag)
        need(end.startswith('OK' if folder else 'NO [TRYCREATE]'), name, end)
        s.absorb(lines)
        s.settle(True)
        if folder:
            m = re.search(r'\[APPENDUID (\d+) (\S+)\]', end)
            folder.told_validity(int(m[1]))
            need(uid_set(m[2]) == uids, end, uids)

    def op_lmtp(self, s, rng):
        for _ in range(rng.randint(1, 2)):
            self.number += 1
            self.server.deliver(self.text(self.number).encode(), self.name)
            self.folders['INBOX'].add(Msg(self.number))
            for other in self.sessions:
                other.drain_idle()

    def op_pop3(self, s, rng):
        inbox = self.folders['INBOX'].msgs
        with self.server.pop3(self.name) as pop:
            need(pop.stat()[0] == len(inbox), 'POP3 sees', pop.stat(), len(inbox))
            uidls = pop.uidl()
            need(len(set(uidls)) == len(inbox), uidls)
            for uid, uidl in zip(inbox, uidls):
                old = getattr(inbox[uid], 'uidl', uidl)
                need(old == uidl, 'UIDL changed', old, uidl)
                inbox[uid].uidl = uidl
            gone = sorted(rng.sample(range(len(inbox)), min(len(inbox), rng.randint(0, 3))))
            for i in gone:
                pop.dele(i + 1)
            uids = list(inbox)
        for i in gone:
            del inbox[uids[i]]

    def op_store(self, s, rng):
        if not self.selected(s, rng):
            return
        uid, text, picked = self.some(s, rng)
        how, silent = rng.choice(['+', '-', '']), rng.choice(['', '.SILENT'])
        flags = frozenset(rng.sample(FLAGS, rng.randint(0 if how == '' else 1, 3)))
        since = None
        if s.modseqs() and rng.random() < .5:
            since = rng.choice([m.modseq or m.floor for m in s.folder.msgs.values()] + [s.folder.modseq, 1 << 60])
        lines, end = s.cmd(f'{"UID " if uid else ""}STORE {text} {f"(UNCHANGEDSINCE {since}) " if since is not None else ""}{how}FLAGS{silent} ({" ".join(flags)})')
        if s.ro:
            need(end.startswith('NO'), end)
            s.absorb(lines, expunge=uid)
            s.settle(uid)
            return
        need(end.startswith('OK'), end)
        failed = set()
        if m := re.search(r'\[MODIFIED (\S+)\]', end):
            failed = set(uid_set(m[1]) if uid else (s.view[n - 1] for n in uid_set(m[1])))
            need(since is not None and failed <= set(picked), end)
        for u in picked:
            msg = s.folder.msgs.get(u)
            if not msg or u in failed:
                need(u not in failed or not msg or msg.modseq is None or msg.modseq > since, 'MODIFIED for nothing', u)
                continue
            need(since is None or msg.modseq is None or msg.modseq <= since, 'stored in spite of', since, msg.modseq)
            new = msg.flags | flags if how == '+' else msg.flags - flags if how == '-' else flags
            msg.change(new)
            if silent and s.known[u] is not None:
                old = s.known[u]
                s.known[u] = old | flags if how == '+' else old - flags if how == '-' else flags
        rest = s.absorb(lines, expunge=uid)
        told = {int(r.split()[0]) for r in rest if r[0].isdigit()}
        need(silent or {u for u in picked if u in s.folder.msgs and u not in failed} <= told, 'not told', picked, rest)
        s.settle(uid)

    def op_fetch(self, s, rng):
        if not self.selected(s, rng):
            return
        uid, text, picked = self.some(s, rng)
        items = rng.choice(['FLAGS', 'UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)]', 'BODY[TEXT]', 'UID', 'UID FLAGS RFC822.SIZE'])
        lines, end = s.cmd(f'{"UID " if uid else ""}FETCH {text} ({items})')
        need(end.startswith('OK'), end)
        before = list(s.view)
        if 'BODY[TEXT]' in items and not s.ro:
            for u in picked:
                msg = s.folder.msgs.get(u)
                if msg and r'\Seen' not in msg.flags:
                    msg.change(msg.flags | {r'\Seen'})
        s.asked = True
        rest = s.absorb(lines, expunge=uid)
        s.asked = False
        told = [r for r in rest if r[0].isdigit()]
        need({u for u in picked if u in s.folder.msgs} <= {int(r.split()[0]) for r in told}, 'not fetched', picked, told, before)
        for r in told:
            msg = s.folder.msgs.get(int(r.split()[0]))
            m = re.search(r'Subject: (\d+)|Text (\d+)\.', r)
            need(not m or not msg or int(m[1] or m[2]) == msg.number, 'another message', r, msg and msg.number)
        s.settle(uid)

    def op_copy(self, s, rng):
        if not self.selected(s, rng):
            return
        uid, text, picked = self.some(s, rng)
        name, move = self.pick_folder(rng), rng.random() < .5
        to = self.folders.get(name)
        good = to is not None and not (move and (s.ro or to is s.folder))
        lines, end = s.cmd(f'{"UID " if uid else ""}{"MOVE" if move else "COPY"} {text} "{name}"')
        need(end.startswith('OK' if good else 'NO'), name, end)
        if good:
            there = [u for u in picked if u in s.folder.msgs]
            new = [self.copy(s.folder.msgs[u], to) for u in there]
            if move:
                for u in there:
                    del s.folder.msgs[u]
            m = re.search(r'COPYUID (\d+) (\S+) (\S+)\]', '\n'.join(lines + [end]))
            need(bool(m) == bool(there), 'COPYUID', there, end)
            if m:
                to.told_validity(int(m[1]))
                need(uid_set(m[2]) == there and uid_set(m[3]) == new, m[0], there, new)
        s.absorb(lines)
        s.settle(True)

    def expunge(self, s, uids):
        for u in uids:
            msg = s.folder.msgs.get(u)
            if msg and r'\Deleted' in msg.flags:
                del s.folder.msgs[u]

    def op_expunge(self, s, rng):
        if not self.selected(s, rng):
            return
        uid, text, picked = self.some(s, rng)
        lines, end = s.cmd(f'UID EXPUNGE {text}' if uid else 'EXPUNGE')
        need(end.startswith('NO' if s.ro else 'OK'), end)
        if not s.ro:
            self.expunge(s, picked if uid else s.view)
        s.absorb(lines)
        s.settle(True)

    def op_search(self, s, rng):
        if not self.selected(s, rng):
            return
        def key(depth):
            r = rng.random()
            if depth < 3 and r < .2:
                a, ta = key(depth + 1)
                return f'NOT {a}', lambda u, m: not ta(u, m)
            if depth < 3 and r < .4:
                (a, ta), (b, tb) = key(depth + 1), key(depth + 1)
                return f'OR {a} ({b} ALL)', lambda u, m: ta(u, m) or tb(u, m)
            if r < .6:
                i, j = sorted(rng.choices(range(1, s.folder.uidnext + 1), k=2))
                return f'UID {i}:{j}', lambda u, m: i <= u <= j
            if r < .7:
                n = rng.randint(0, self.number)
                return f'SUBJECT {n}', lambda u, m: str(n) in str(m.number)
            f = rng.choice(FLAGS)
            word, on = (f[1:].upper() if f[0] == '\\' else f'KEYWORD {f}'), rng.random() < .5
            return word if on else 'UN' + word, lambda u, m: (f in m.flags) == on
        text, test = key(0)
        uid, ret = rng.random() < .5, rng.random() < .5
        lines, end = s.cmd(f'{"UID " if uid else ""}SEARCH {"RETURN (ALL COUNT) " if ret else ""}{text}')
        need(end.startswith('OK'), text, end)
        before = list(s.view)
        line = next(l for l in lines if re.match(r'\* E?SEARCH', l))
        if 'ESEARCH' in line:
            m = re.search(r' ALL (\S+)', line)
            got = uid_set(m[1]) if m else []
            count = re.search(r'COUNT (\d+)', line)
            need(not count or int(count[1]) == len(got), line)
        else:
            got = [int(n) for n in re.sub(r'\(MODSEQ.*', '', line).split()[2:]]
        got = got if uid else [before[n - 1] for n in got]
        want = [u for u in before if u in s.folder.msgs and test(u, s.folder.msgs[u])]
        need([u for u in got if u in s.folder.msgs] == want and set(got) <= set(before), text, 'found', got, 'there is', want)
        s.absorb(lines, expunge=uid)
        s.settle(uid)

    def op_noop(self, s, rng):
        s.run(rng.choice(['NOOP', 'CAPABILITY', 'NOOP']))
        s.settle(True)

    def op_idle(self, s, rng):
        if not s.idle:
            s.idle = s.send('IDLE')
            while (line := s.line()) != '+ idling':
                s.absorb([line], strict=False)
            return
        s.s.sendall(b'DONE\r\n')
        lines, end = s.until(s.idle)
        s.idle = None
        need(end.startswith('OK'), end)
        s.absorb(lines, strict=False)
        s.settle(True)

    # ---- life ----
    def op_reconnect(self, s, rng):
        s.close()
        s.open()

    def op_restart(self, s, rng):
        for x in self.sessions:
            x.close()
        self.server.restart()
        self.again()

    def again(self):
        for x in self.sessions:
            x.open()
        for name in list(self.folders):
            self.compare(name)

    def truth(self, s, name):
        """The folder as the server has it: (UIDNEXT, [(uid, number, flags)])."""
        lines = s.ok(f'EXAMINE "{name}"')
        uidnext = int(re.search(r'UIDNEXT (\d+)', '\n'.join(lines))[1])
        shape = []
        for line in s.ok('UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])'):
            if m := re.match(r'\* \d+ FETCH \((.*)', line, re.S):
                shape.append((int(re.search(r'UID (\d+)', m[1])[1]), int(re.search(r'Subject: (\d+)', m[1])[1]),
                              frozenset(re.search(r'FLAGS \(([^)]*)\)', m[1])[1].split())))
        s.ok('UNSELECT')
        return uidnext, shape

    def compare(self, name):
        uidnext, shape = self.truth(self.sessions[0], name)
        folder = self.folders[name]
        need(shape == folder.shape(), name, 'is', shape, 'and should be', folder.shape())
        need(uidnext >= folder.uidnext, 'UIDNEXT fell', uidnext, folder.uidnext)
        folder.uidnext = uidnext  # a kill may have torn the log: numbers are then skipped

    def op_kill(self, s, rng):
        """kill -9 with one command on its way: it has happened wholly or not at all."""
        if s.idle:
            self.op_idle(s, rng)
        if s.folder and s.folder.deleted:
            s.ok('UNSELECT')
            s.folder = None
        self.selected(s, rng)
        before = {n: f.shape() for n, f in self.folders.items()}
        after = {n: list(x) for n, x in before.items()}
        nexts = {n: f.uidnext for n, f in self.folders.items()}
        kind, name = rng.choice(['APPEND', 'MOVE', 'COPY', 'STORE', 'EXPUNGE']), rng.choice(sorted(self.folders))
        uids = [u for u in s.view if u in s.folder.msgs] if s.folder else []
        here = next((n for n, f in self.folders.items() if f is s.folder), None)
        if kind == 'APPEND' or not uids or s.ro or name == here:
            text, msgs = self.append_text(rng)
            s.send(f'APPEND "{name}"{text}')
            after[name] += [(nexts[name] + i, m.number, m.flags) for i, m in enumerate(msgs)]
        elif kind in ('MOVE', 'COPY'):
            picked = sorted(rng.sample(uids, rng.randint(1, len(uids))))
            s.send(f'UID {kind} {as_set(picked)} "{name}"')
            after[name] += [(nexts[name] + i, s.folder.msgs[u].number, s.folder.msgs[u].flags) for i, u in enumerate(picked)]
            if kind == 'MOVE':
                after[here] = [x for x in after[here] if x[0] not in picked]
        elif kind == 'STORE':
            s.send(r'UID STORE 1:* FLAGS.SILENT (\Flagged k3)')
            after[here] = [(u, n, frozenset([r'\Flagged', 'k3'])) if u in s.view else (u, n, f) for u, n, f in after[here]]
        else:
            s.send('EXPUNGE')
            after[here] = [x for x in after[here] if x[0] not in s.view or r'\Deleted' not in x[2]]
        s.s.settimeout(rng.choice([0.0005, 0.002, 0.005]))
        try:
            s.s.recv(1, socket.MSG_PEEK)
        except (socket.timeout, BlockingIOError):
            pass
        self.server.kill()
        answer = b''
        s.s.settimeout(5)
        try:
            while chunk := s.s.recv(65536):
                answer += chunk
        except OSError:
            pass
        acknowledged = f't{s.n} OK'.encode() in answer
        self.note(f'killed, answer {answer!r}')
        for x in self.sessions:
            x.close()
        self.server.start()
        x = Session(self, 'plain')
        now = {n: self.truth(x, n) for n in self.folders}
        x.close()
        shapes = {n: shape for n, (_, shape) in now.items()}
        need(shapes == after or (shapes == before and not acknowledged), 'after a kill, acknowledged', acknowledged, 'is', shapes, 'before', before, 'after', after)
        for n, f in self.folders.items():
            old, f.msgs, f.uidnext = f.msgs, {}, now[n][0]
            for uid, number, flags in shapes[n]:
                m = old[uid] if uid in old else Msg(number, flags)
                if m.flags != flags:
                    m.change(flags)
                f.msgs[uid] = m
        self.again()


# ---- runs ----

WEIGHTS = {'append': 8, 'lmtp': 6, 'pop3': 3, 'store': 14, 'fetch': 10, 'copy': 9, 'expunge': 7, 'search': 8, 'noop': 6, 'idle': 7,
           'select': 8, 'unselect': 5, 'create': 4, 'delete': 2, 'rename': 2, 'subscribe': 2, 'list': 3, 'status': 5, 'reconnect': 1}


def operations(seed, count, weights=WEIGHTS, sessions=len(MODES)):
    rng = random.Random(seed)
    kinds = rng.choices(list(weights), list(weights.values()), k=count)
    return [(kind, rng.randrange(sessions), rng.randrange(1 << 30)) for kind in kinds]


def run(server, name, ops, modes=MODES):
    """None, or what was wrong and the last of what was said."""
    world = None
    try:
        world = World(server, name, modes)
        for op in ops:
            world.step(op)
        if world.sessions[0].idle:
            world.op_idle(world.sessions[0], random.Random(0))
        for folder in list(world.folders):
            world.compare(folder)
        return None
    except Exception as e:  # a response that cannot be read is as wrong as one that says something else
        if server.process is None:
            server.start()
        return f'{type(e).__name__}: {e}', world.story[-60:] if world else []
    finally:
        if world:
            world.close()


def shrink(ops, fails, tries, seconds=90):
    """Leaves out operations while what is left still fails: halves, quarters ... single ones."""
    size, end = max(1, len(ops) // 2), time.time() + seconds
    while tries > 0 and time.time() < end:
        at, cut = 0, False
        while at < len(ops) and tries > 0 and time.time() < end:
            less = ops[:at] + ops[at + size:]
            tries -= 1
            if less and fails(less):
                ops, cut = less, True
            else:
                at += size
        if size == 1 and not cut:
            break
        size = max(1, size // 2)
    return ops
