#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program on a host that refuses io_uring, in one of the ways that hosts do.

    refuse.py io_uring_setup|io_uring_enter|io_uring_register PROGRAM [ARGUMENTS]    a seccomp filter answers EPERM, as container runtimes' do
    refuse.py memlock PROGRAM [ARGUMENTS]    as an ordinary user (nobody) with 4 KiB of locked memory

The process becomes PROGRAM: its pid, descriptors and exit status are PROGRAM's.
"""
import ctypes
import os
import resource
import struct
import sys

CALLS = {'io_uring_setup': 425, 'io_uring_enter': 426, 'io_uring_register': 427}  # the same on all architectures
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
NOBODY = 65534


def refuse_call(number):
    """The number loaded; equal: EPERM (1); else allowed."""
    program = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 1), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *i) for i in program))
    head = ctypes.create_string_buffer(struct.pack('@HP', len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(head), 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(a) for a in call)) != 0:
            sys.exit(f'prctl: {os.strerror(ctypes.get_errno())}')


def little_memory():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
    if os.geteuid() == 0:  # root's rings are not counted
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


if __name__ == '__main__':
    how, program = sys.argv[1], sys.argv[2:]
    little_memory() if how == 'memlock' else refuse_call(CALLS[how])
    os.execv(program[0], program)
