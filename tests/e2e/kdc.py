# SPDX-License-Identifier: Apache-2.0
"""A KDC of MIT Kerberos on loopback, in a folder, and a client of GSS-API by ctypes."""
import ctypes
import os
import shutil
import subprocess
import time

from penfold import free_ports

REALM = 'DEMO.EXAMPLE'


def tool(name):
    return shutil.which(name, path=os.environ['PATH'] + ':/usr/sbin:/sbin')


class Kdc:
    """With principals of given passwords; `env` is for who is to know it."""

    def __init__(self, folder, **principals):
        self.folder = str(folder)
        self.port, = free_ports(1)
        self.keytab = os.path.join(self.folder, 'keytab')
        self.env = {**os.environ, 'KRB5_CONFIG': self.path('krb5.conf'), 'KRB5_KDC_PROFILE': self.path('kdc.conf'),
                    'KRB5RCACHENAME': 'file2:' + self.path('replays')}
        self.write('krb5.conf', f'''[libdefaults]
default_realm = {REALM}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
[realms]
{REALM} = {{
 kdc = 127.0.0.1:{self.port}
}}
[domain_realm]
localhost = {REALM}
''')
        self.write('kdc.conf', f'''[kdcdefaults]
kdc_listen = 127.0.0.1:{self.port}
kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
{REALM} = {{
 database_name = {self.path('principals')}
 key_stash_file = {self.path('stash')}
}}
[logging]
kdc = FILE:{self.path('log')}
''')
        self.run('kdb5_util', 'create', '-s', '-r', REALM, '-P', 'master')
        for name, password in principals.items():
            self.admin(f'addprinc -pw {password} {name}')
        for service in ('pop', 'imap'):
            self.admin(f'addprinc -randkey {service}/localhost')
            self.admin(f'ktadd -k {self.keytab} {service}/localhost')

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), 'w') as f:
            f.write(text)

    def run(self, name, *args, **more):
        return subprocess.run([tool(name), *args], env=self.env, check=True, capture_output=True, timeout=60, **more)

    def admin(self, query):
        self.run('kadmin.local', '-r', REALM, '-q', query)

    def ticket(self, name, password):
        """The environment of somebody who has logged in to the realm."""
        env = {**self.env, 'KRB5CCNAME': 'FILE:' + self.path('tickets-' + name.replace('/', '-'))}
        for _ in range(100):  # the KDC may be just starting
            done = subprocess.run([tool('kinit'), name], env=env, input=password.encode() + b'\n', capture_output=True, timeout=60)
            if done.returncode == 0:
                return env
            time.sleep(0.1)
        raise AssertionError(done)

    def __enter__(self):
        self.process = subprocess.Popen([tool('krb5kdc'), '-n', '-r', REALM], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, kind, value, trace):
        self.process.terminate()
        self.process.wait()


class Buffer(ctypes.Structure):
    _fields_ = [('length', ctypes.c_size_t), ('value', ctypes.c_void_p)]

    @classmethod
    def of(cls, data):
        b = cls(len(data), ctypes.cast(ctypes.create_string_buffer(data, len(data) or 1), ctypes.c_void_p))
        b.kept = data
        return b

    def bytes(self):
        return ctypes.string_at(self.value, self.length) if self.length else b''


class Oid(ctypes.Structure):
    _fields_ = [('length', ctypes.c_uint32), ('elements', ctypes.c_char_p)]


class Gss:
    """One client's context with pop@localhost; KRB5_CONFIG and KRB5CCNAME are this process's."""

    def __init__(self):
        self.lib = ctypes.CDLL('libgssapi_krb5.so.2')
        self.minor, self.context, self.name = ctypes.c_uint32(), ctypes.c_void_p(), ctypes.c_void_p()
        service = Oid(10, b'\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04')  # GSS_C_NT_HOSTBASED_SERVICE
        name = Buffer.of(b'pop@localhost')
        assert self.lib.gss_import_name(ctypes.byref(self.minor), ctypes.byref(name), ctypes.byref(service), ctypes.byref(self.name)) == 0

    def step(self, token=b''):
        """(over, what to send)"""
        krb5 = Oid(9, b'\x2a\x86\x48\x86\xf7\x12\x01\x02\x02')
        given, out, flags = Buffer.of(token), Buffer(), ctypes.c_uint32()
        major = self.lib.gss_init_sec_context(ctypes.byref(self.minor), None, ctypes.byref(self.context), self.name, ctypes.byref(krb5),
                                              ctypes.c_uint32(2 | 32), ctypes.c_uint32(0), None, ctypes.byref(given), None, ctypes.byref(out),
                                              ctypes.byref(flags), None)  # mutual, integrity
        assert major in (0, 1), (major, self.minor)
        return major == 0, out.bytes()

    def unwrap(self, data):
        given, out = Buffer.of(data), Buffer()
        assert self.lib.gss_unwrap(ctypes.byref(self.minor), self.context, ctypes.byref(given), ctypes.byref(out), None, None) == 0
        return out.bytes()

    def wrap(self, data):
        given, out = Buffer.of(data), Buffer()
        assert self.lib.gss_wrap(ctypes.byref(self.minor), self.context, ctypes.c_int(0), ctypes.c_uint32(0), ctypes.byref(given), None,
                                 ctypes.byref(out)) == 0
        return out.bytes()
