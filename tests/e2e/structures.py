# SPDX-License-Identifier: Apache-2.0
"""ENVELOPE and BODYSTRUCTURE as data, and what other servers say of the same message.

Dovecot runs as one process on a pair of pipes, Cyrus with its master on a port of loopback; both with a configuration and a mail folder of
their own, as a user without rights, and are ended by pid. A system's own Dovecot or Cyrus is neither used nor touched.
"""
import imaplib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time

DOVEADM = '/usr/bin/doveadm'
DOVECOT_IMAP = '/usr/lib/dovecot/imap'
CYRUS = os.environ.get('CYRUS_ROOT', '')  # where the packages cyrus-imapd and cyrus-common are unpacked, if they are not installed


# ---- answers as data ----

def read(text, at=0):
    """A parenthesized list, string, number or NIL: (value, where it ends). Strings are bytes, whether quoted or literals."""
    if text[at:at + 1] == b'(':
        out, at = [], at + 1
        while text[at:at + 1] != b')':
            if text[at:at + 1] == b' ':
                at += 1
                continue
            value, at = read(text, at)
            out.append(value)
        return out, at + 1
    if text[at:at + 1] == b'"':
        m = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.S).match(text, at)
        return re.sub(rb'\\(.)', rb'\1', m[1], flags=re.S), m.end()
    m = re.compile(rb'~?\{(\d+)\+?\}\r\n').match(text, at)
    if m:
        return text[m.end():m.end() + int(m[1])], m.end() + int(m[1])
    m = re.compile(rb'[^ ()]+').match(text, at)
    word = m[0]
    return (None if word.upper() == b'NIL' else int(word) if word.isdigit() else word), m.end()


def pairs(text):
    """'1 (UID 2 ENVELOPE (...))' as a dictionary."""
    items = read(text[text.index(b'('):])[0]
    return {items[i].upper().decode(): items[i + 1] for i in range(0, len(items), 2)}


def flat(data):
    """What imaplib made of one answer, in one piece again."""
    return b''.join(d[0] + b'\r\n' + d[1] if isinstance(d, tuple) else d for d in data if d)


def one(client, number):
    """(envelope, structure) of a message, or None if the server refuses."""
    typ, data = client.fetch(str(number), '(ENVELOPE BODYSTRUCTURE)')
    if typ != 'OK' or not data or data[0] is None:
        return None
    got = pairs(flat(data))
    return got['ENVELOPE'], got['BODYSTRUCTURE']


def differences(ours, theirs, path=''):
    """Where two of them differ: [(path, ours, theirs)]. Words of the grammar are the same in any case; so is NIL for a list at the end that is not sent."""
    if isinstance(ours, list) and isinstance(theirs, list):
        out = []
        for i in range(max(len(ours), len(theirs))):
            a, b = (x[i] if i < len(x) else 'absent' for x in (ours, theirs))
            out += differences(a, b, f'{path}.{i}' if path else str(i))
        return out
    if isinstance(ours, bytes) and isinstance(theirs, bytes) and ours.lower() == theirs.lower():
        return []
    return [] if ours == theirs and type(ours) is type(theirs) else [(path, ours, theirs)]


# ---- the others ----

def unprivileged(folder):
    """subprocess's arguments to run as a user without rights, who owns the folder."""
    os.makedirs(folder, exist_ok=True)
    if os.geteuid() != 0:
        return {}
    who = pwd.getpwnam('nobody')
    for at, names, files in os.walk(folder):
        for name in [at, *(os.path.join(at, f) for f in files)]:
            os.chown(name, who.pw_uid, who.pw_gid)
    return {'user': who.pw_uid, 'group': who.pw_gid, 'extra_groups': []}


class Peer:
    def fill(self, messages):
        """Stores them in INBOX; [None, or why the server would not have it]."""
        out = []
        for m in messages:
            typ, data = self.client.append('INBOX', None, None, m)
            out.append(None if typ == 'OK' else data[0])
        assert self.client.select()[0] == 'OK'
        return out


class Pipes(imaplib.IMAP4_stream):
    def __init__(self, command, **more):
        self.more = more
        super().__init__(command)

    def open(self, host=None, port=None, timeout=None):
        self.host = self.port = self.sock = None
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **self.more)
        self.writefile, self.readfile, self.file = self.process.stdin, self.process.stdout, self.process.stdout


class Dovecot(Peer):
    name = 'dovecot'

    @staticmethod
    def missing():
        return None if os.access(DOVEADM, os.X_OK) and os.access(DOVECOT_IMAP, os.X_OK) else 'dovecot-imapd is not installed'

    def __init__(self, folder):
        os.makedirs(folder)
        path = os.path.join(folder, 'dovecot.conf')
        with open(path, 'w') as f:
            f.write(f'base_dir = {folder}/base\nstate_dir = {folder}/state\nlog_path = {folder}/log\nmail_location = sdbox:{folder}/mail\n'
                    'mail_fsync = never\nssl = no\nprotocols = imap\n')
        self.client = Pipes([DOVEADM, '-c', path, 'exec', 'imap'], cwd=folder, env={'HOME': folder, 'USER': 'nobody', 'PATH': os.environ['PATH']},
                            **unprivileged(folder))

    def close(self):
        try:
            self.client.logout()
        finally:
            self.client.process.wait(10)


class Cyrus(Peer):
    name = 'cyrus'

    @staticmethod
    def missing():
        return None if os.access(CYRUS + '/usr/lib/cyrus/bin/imapd', os.X_OK) and shutil.which('saslpasswd2') else 'cyrus-imapd and sasl2-bin are not installed'

    def __init__(self, folder):
        os.makedirs(folder)
        bin = CYRUS + '/usr/lib/cyrus/bin'
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        who = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else 'nobody'
        with open(f'{folder}/imapd.conf', 'w') as f:
            f.write(f'configdirectory: {folder}/conf\npartition-default: {folder}/spool\ndefaultpartition: default\ncyrus_user: {who}\nadmins: cyrus\n'
                    f'allowplaintext: yes\nsasl_mech_list: PLAIN\nsasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\nsasl_sasldb_path: {folder}/sasldb\n'
                    'virtdomains: off\nunixhierarchysep: yes\nautocreate_quota: 0\nautocreate_post: no\nreject8bit: no\nmunge8bit: no\n'
                    f'duplicate_db: twoskip\nproc_path: {folder}/proc\nmboxname_lockpath: {folder}/lock\nsyslog_prefix: structures\n')
        with open(f'{folder}/cyrus.conf', 'w') as f:
            f.write(f'START {{\n recover cmd="{bin}/ctl_cyrusdb -C {folder}/imapd.conf -r"\n}}\n'
                    f'SERVICES {{\n imap cmd="{bin}/imapd -C {folder}/imapd.conf -U 30" listen="127.0.0.1:{port}" prefork=0 proto="tcp4"\n}}\nEVENTS {{\n}}\n')
        for name in ('conf/db', 'conf/log', 'conf/socket', 'conf/proc', 'spool', 'proc', 'lock'):
            os.makedirs(f'{folder}/{name}', exist_ok=True)
        subprocess.run(['saslpasswd2', '-p', '-c', '-f', f'{folder}/sasldb', '-u', socket.gethostname(), 'cyrus'], input=b'secret', check=True)
        self.log = open(f'{folder}/out', 'wb')
        self.process = subprocess.Popen([f'{bin}/master', '-C', f'{folder}/imapd.conf', '-M', f'{folder}/cyrus.conf', '-p', f'{folder}/pid'], cwd=folder,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
                                        env={'PATH': os.environ['PATH'], 'CYRUS_VERBOSE': '1'}, **unprivileged(folder))
        until = time.monotonic() + 30
        while True:
            try:
                self.client = imaplib.IMAP4('127.0.0.1', port)
                self.client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                break
            except (OSError, imaplib.IMAP4.error):
                if time.monotonic() > until:
                    self.process.send_signal(signal.SIGTERM)
                    raise
                time.sleep(.1)
        self.client.login('cyrus', 'secret')

    def fill(self, messages):
        assert self.client.create('INBOX')[0] in ('OK', 'NO')
        return super().fill(messages)

    def close(self):
        try:
            self.client.logout()
        finally:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.log.close()
