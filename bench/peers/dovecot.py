#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dovecot: Debian's Dovecot 2.3, tuned, in a temporary folder on ports of its own.

As a module: class Dovecot, used by bench/compare.py. As a program, to look at it by hand:

    bench/peers/dovecot.py --store sdbox --users 16 --messages 100 --size 4096

starts it, fills the mailboxes through LMTP, prints the ports and waits for Ctrl-C.
Needs root (it has users of its own) and the packages dovecot-core dovecot-pop3d
dovecot-imapd dovecot-lmtpd; the system's own Dovecot is neither used nor touched."""

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile

if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from lab.load import Load
from lab.server import DOMAIN, PASSWORD_HASH, Failed, Server

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = "/usr/sbin/dovecot"


def missing():
    """Why Dovecot cannot be run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.access(PROGRAM, os.X_OK):
        return "dovecot-core dovecot-pop3d dovecot-imapd dovecot-lmtpd are not installed"
    for user in ("dovecot", "dovenull", "mail"):
        try:
            pwd.getpwnam(user)
        except KeyError:
            return "no user %s" % user
    return None


class Dovecot(Server):
    name = "dovecot"

    def __init__(self, folder, pop3, lmtp, imap, cores="0", store="maildir", people=()):
        super().__init__(folder, pop3, lmtp, cores)
        self.imap = imap
        self.store = store
        self.people = people

    def create(self):
        for name in ("base", "state", "mail"):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        mail = pwd.getpwnam("mail")
        os.chown(os.path.join(self.folder, "mail"), mail.pw_uid, mail.pw_gid)
        self._reachable()
        with open(os.path.join(self.folder, "users"), "w") as f:
            for who in self.people:
                f.write("%s@%s:%s\n" % (who, DOMAIN, PASSWORD_HASH))

    def _reachable(self):
        """The mail user must be able to walk down to its mail."""
        path = self.folder
        os.chmod(path, 0o755)
        while path != "/":
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & 0o001:
                raise Failed("%s cannot be entered by Dovecot's users: choose another --work" % path)

    def _ssl(self):
        if not self.pair:
            return "ssl = no"
        return "ssl = yes\nssl_cert = <%s\nssl_key = <%s\nssl_min_protocol = TLSv1.2" % self.pair

    def command(self):
        first, _, last = self.cores.partition("-")
        with open(os.path.join(HERE, "dovecot.conf.in")) as f:
            text = f.read()
        for key, value in (("RUN", self.folder), ("POP3", self.pop3), ("LMTP", self.lmtp), ("IMAP", self.imap),
                           ("POP3S", self.pop3s or 0), ("SSL", self._ssl()),
                           ("MAIL_LOCATION", "%s:%s/mail/%%n/box" % (self.store, self.folder)),
                           ("CORES", int(last or first) - int(first) + 1)):
            text = text.replace("@%s@" % key, str(value))
        path = os.path.join(self.folder, "dovecot.conf")
        with open(path, "w") as f:
            f.write(text)
        return [PROGRAM, "-F", "-c", path]

    def copy_mailbox(self, source, targets):
        """A large mailbox is delivered once and copied: it is the same on disk."""
        mail = os.path.join(self.folder, "mail")
        for target in targets:
            shutil.rmtree(os.path.join(mail, target), ignore_errors=True)
            subprocess.run(["cp", "-a", os.path.join(mail, source), os.path.join(mail, target)], check=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--store", default="maildir", choices=("maildir", "sdbox", "mdbox"))
    p.add_argument("--pop3", type=int, default=20310)
    p.add_argument("--lmtp", type=int, default=20324)
    p.add_argument("--imap", type=int, default=20343)
    p.add_argument("--cores", default="0", help="0 or 0-1")
    p.add_argument("--users", type=int, default=16)
    p.add_argument("--messages", type=int, default=0)
    p.add_argument("--size", type=int, default=4096)
    p.add_argument("--load", default="build/bench/load")
    o = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # tidy up as for Ctrl-C
    why = missing()
    if why:
        sys.exit("dovecot: " + why)
    server = Dovecot(tempfile.mkdtemp(prefix="penfold-dovecot-"), o.pop3, o.lmtp, o.imap, o.cores, o.store,
                     ["user%d" % i for i in range(1, o.users + 1)])
    try:
        server.create()
        server.start()
        if o.messages:
            Load(o.load).fill(server, "user%d", 1, o.users, o.messages, o.size)
        print("dovecot %s: POP3 %d, LMTP %d, IMAP %d; users user1 .. user%d@%s, password secret; %s"
              % (o.store, o.pop3, o.lmtp, o.imap, o.users, DOMAIN, " ".join(server.load_arguments())), flush=True)
        server.process.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
        server.wipe()


if __name__ == "__main__":
    main()
