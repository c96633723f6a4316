# SPDX-License-Identifier: Apache-2.0
"""namespace: a network of one's own, so that the host's settings neither decide nor change.

A machine may run BBR, whose pacing timers cost more than the sends they pace when the network
is a loopback; another may have its ports in use. With root the comparison enters a network
namespace with a loopback device and the congestion control it was told; when it ends, so does
the namespace. Without root the host's network is used as it is."""

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"


def enter(congestion):
    """Moves this process, and so all it starts, into a fresh namespace. Returns why not, or None."""
    if os.geteuid() != 0:
        return "needs root"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        name, flags = struct.unpack("16sh", fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0)))
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh", name, flags | IFF_UP))
    with open(CONGESTION, "w") as f:
        f.write(congestion)
    return None
