# SPDX-License-Identifier: Apache-2.0
"""Certificates made on the spot, and a Penfold with TLS listeners, for the end-to-end tests."""
import os
import ssl
import subprocess

from penfold import Penfold, free_ports


def make_pair(folder, name, chain='cert.pem', key='key.pem', rsa=False, days=30):
    """A self-signed pair for `name`; each file appears whole."""
    os.makedirs(folder, exist_ok=True)
    kind = ['-newkey', 'rsa:2048'] if rsa else ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
    c, k = os.path.join(folder, chain), os.path.join(folder, key)
    subprocess.run(['openssl', 'req', '-x509', *kind, '-nodes', '-days', str(days), '-subj', f'/CN={name}', '-addext',
                    f'subjectAltName=DNS:{name},IP:127.0.0.1', '-keyout', k + '.new', '-out', c + '.new'],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.chmod(k + '.new', 0o600)
    os.rename(k + '.new', k)
    os.rename(c + '.new', c)
    return c, k


def trusting(path=None, **more):
    """A client's context that trusts the file, or anybody."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if path:
        c.load_verify_locations(path)
    else:
        c.check_hostname = False
        c.verify_mode = ssl.CERT_NONE
    for name, value in more.items():
        setattr(c, name, value)
    return c


class TlsPenfold(Penfold):
    """pop3_port: STLS; pops_port: implicit TLS; lmtp_port: STARTTLS; lmtps_port: implicit; imap_port and imaps_port likewise."""

    def __init__(self, folder, name='mail.test.example', rsa=False, tls='', listener='', **kw):
        super().__init__(folder, **kw)
        self.chain, self.key = make_pair(self.folder, name, rsa=rsa)
        self.pops_port, self.lmtps_port, self.imaps_port = free_ports(3)
        with open(self.config) as f:
            text = f.read()
        text = text.replace('listeners:\n', f'''tls: {{ certificate: {self.chain}, key: {self.key}{tls} }}
listeners:
  - {{ protocol: pop3, address: "127.0.0.1:{self.pops_port}", tls: implicit{listener} }}
  - {{ protocol: lmtp, address: "127.0.0.1:{self.lmtps_port}", tls: implicit }}
  - {{ protocol: imap, address: "127.0.0.1:{self.imaps_port}", tls: implicit }}
''')
        with open(self.config, 'w') as f:
            f.write(text)

    def trust(self, **more):
        return trusting(self.chain, **more)
