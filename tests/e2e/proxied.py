# SPDX-License-Identifier: Apache-2.0
"""A Penfold behind the PROXY protocol: headers made here, so that a client may come from any address."""
import ipaddress
import socket
import struct

from penfold import free_ports
from tls import TlsPenfold

SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'


def v1(client, port=4711, to='127.0.0.1'):
    kind = 'TCP6' if ':' in client else 'TCP4'
    return f'PROXY {kind} {client} {"::1" if ":" in client else to} {port} 110\r\n'.encode()


def v2(client, port=4711, to='127.0.0.1', tlvs=b''):
    a, b = ipaddress.ip_address(client), ipaddress.ip_address('::1' if ':' in client else to)
    body = a.packed + b.packed + struct.pack('>HH', port, 110) + tlvs
    return SIGNATURE + bytes([0x21, 0x11 if a.version == 4 else 0x21]) + struct.pack('>H', len(body)) + body


def tlv(kind, value):
    return bytes([kind]) + struct.pack('>H', len(value)) + value


def ssl_tlv(client=1, verify=0, **parts):
    inner = b''.join(tlv({'version': 0x21, 'cn': 0x22, 'cipher': 0x23}[k], v) for k, v in parts.items())
    return tlv(0x20, bytes([client]) + struct.pack('>I', verify) + inner)


LOCAL = SIGNATURE + b'\x20\x00\x00\x00'


class ProxiedPenfold(TlsPenfold):
    """proxy_port: POP3 that takes passwords in the clear; secure_port: POP3 that wants TLS first; tls_port: implicit TLS;
    required_port: only by a proxy, and none is trusted; proxy_lmtp_port."""

    def __init__(self, folder, trusted='"127.0.0.0/8"', **kw):
        super().__init__(folder, **kw)
        mine, taken = free_ports(5), {self.pop3_port, self.lmtp_port, self.pops_port, self.lmtps_port}
        while taken & set(mine):
            mine = free_ports(5)
        self.proxy_port, self.secure_port, self.tls_port, self.required_port, self.proxy_lmtp_port = mine
        with open(self.config) as f:
            text = f.read()
        text = text.replace('listeners:\n', f'''listeners:
  - {{ protocol: pop3, address: "127.0.0.1:{self.proxy_port}", plaintext: true, proxy_protocol: true, trusted: [{trusted}] }}
  - {{ protocol: pop3, address: "127.0.0.1:{self.secure_port}", proxy_protocol: required, trusted: [{trusted}] }}
  - {{ protocol: pop3, address: "127.0.0.1:{self.tls_port}", tls: implicit, proxy_protocol: required, trusted: [{trusted}] }}
  - {{ protocol: pop3, address: "127.0.0.1:{self.required_port}", proxy_protocol: required, trusted: ["192.0.2.0/24"] }}
  - {{ protocol: lmtp, address: "127.0.0.1:{self.proxy_lmtp_port}", proxy_protocol: true, trusted: [{trusted}] }}
''')
        with open(self.config, 'w') as f:
            f.write(text)

    def come(self, client, port=None):
        return Line(self.raw(port or self.proxy_port), v1(client))


class Line:
    """A connection, line by line."""

    def __init__(self, s, first=b''):
        self.s = s
        s.settimeout(30)
        self.file = s.makefile('rb')
        if first:
            s.sendall(first)

    def read(self):
        return self.file.readline()

    def ask(self, text):
        self.s.sendall(text if isinstance(text, bytes) else text.encode() + b'\r\n')
        return self.read()

    def close(self):
        self.file.close()
        self.s.close()

    def login(self, name, password):
        self.ask(f'USER {name}')
        return self.ask(f'PASS {password}')

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
