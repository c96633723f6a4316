# SPDX-License-Identifier: Apache-2.0
"""A Postfix of the test's own, that hands all mail for the test's domain to an LMTP server:

    with Postfix(lmtp_port) as postfix:
        ... SMTP to postfix.port ...
        postfix.wait_until_empty(30)

Its configuration, queue and data live in a folder of its own under /tmp; nothing of the system's Postfix is read, written or
started.  Needs root, as Postfix itself does.
"""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from penfold import DOMAIN, free_ports

SBIN = '/usr/sbin'

MAIN = '''compatibility_level = 3.6
queue_directory = {top}/queue
data_directory = {top}/data
maillog_file = {top}/log
maillog_file_prefixes = {top}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mta.test.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtpd_recipient_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:all
virtual_transport = {transport}
# what is sent is what arrives
lmtp_line_length_limit = 0
local_header_rewrite_clients =
message_drop_headers =
disable_mime_output_conversion = yes
line_length_limit = 16384
header_size_limit = 1024000
message_size_limit = 0
smtputf8_enable = yes
hopcount_limit = 500
default_process_limit = 20
smtpd_client_message_rate_limit = 0
in_flow_delay = 0
'''

MASTER = '''127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
'''


class Postfix:
    def __init__(self, lmtp, more=None):
        """lmtp: a port of loopback, or the path of a unix socket. more: (folder, transport) -> lines that overrule those of MAIN."""
        self.port, = free_ports(1)
        self.top = tempfile.mkdtemp(prefix='penfold-postfix-', dir='/tmp')
        os.chmod(self.top, 0o755)
        self.conf = os.path.join(self.top, 'conf')
        self.process = None
        for name in ('conf', 'queue'):
            os.mkdir(os.path.join(self.top, name))
        os.mkdir(os.path.join(self.top, 'data'), 0o700)
        shutil.chown(os.path.join(self.top, 'data'), 'postfix')
        transport = f'lmtp:unix:{self._reachable(lmtp)}' if isinstance(lmtp, str) else f'lmtp:inet:127.0.0.1:{lmtp}'
        with open(os.path.join(self.conf, 'main.cf'), 'w') as f:
            f.write(MAIN.format(top=self.top, domain=DOMAIN, transport=transport) + (more(self.conf, transport) if more else ''))
        with open(os.path.join(self.conf, 'master.cf'), 'w') as f:
            f.write(MASTER.format(port=self.port))

    def _reachable(self, path):
        """Postfix's client is not root: it gets the socket under a name of its own, in a folder that it may enter."""
        name = os.path.join(self.top, 'lmtp.sock')
        os.link(path, name)
        os.chmod(name, 0o666)
        return name

    def __enter__(self):
        self.process = subprocess.Popen([f'{SBIN}/postfix', '-c', self.conf, 'start-fg'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        end = time.time() + 30
        while True:
            try:
                with socket.create_connection(('127.0.0.1', self.port), 1) as s:
                    s.settimeout(10)
                    if s.recv(4) == b'220 ':
                        return self
            except OSError:
                pass
            if self.process.poll() is not None or time.time() > end:
                said = self.log()
                self.__exit__(None, None, None)
                raise AssertionError('Postfix did not start:\n' + said)
            time.sleep(0.05)

    def __exit__(self, kind, value, trace):
        """The master has a process of its own; it ends its children, and is asked by its pid file."""
        try:
            with open(os.path.join(self.top, 'queue', 'pid', 'master.pid')) as f:
                master = int(f.read())
        except (OSError, ValueError):
            master = 0
        if master and self._alive(master):
            os.kill(master, signal.SIGTERM)
            end = time.time() + 20
            while self._alive(master):
                if time.time() > end:
                    os.killpg(master, signal.SIGKILL)  # it leads a session of its own
                time.sleep(0.02)
        self.process.wait(20)
        self.process.stdout.close()
        if kind is None:
            shutil.rmtree(self.top)

    def _alive(self, pid):
        """Whether it is a master of ours, not somebody who got its number."""
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as f:
                return b'master' in f.read() and os.path.realpath(f'/proc/{pid}/cwd').startswith(self.top)
        except OSError:
            return False

    def log(self):
        try:
            with open(os.path.join(self.top, 'log'), errors='replace') as f:
                return f.read()[-4000:]
        except OSError:
            return self.process.stdout.read().decode(errors='replace') if self.process.poll() is not None else ''

    def queued(self):
        return sum(len(names) for q in ('maildrop', 'incoming', 'active', 'deferred', 'hold', 'corrupt')
                   for _, _, names in os.walk(os.path.join(self.top, 'queue', q)))

    def wait_until_empty(self, seconds):
        end = time.time() + seconds
        while self.queued():
            assert time.time() < end, f'{self.queued()} messages are still in the queue:\n' + self.log()
            time.sleep(0.05)
