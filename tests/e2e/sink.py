# SPDX-License-Identifier: Apache-2.0
"""A small LMTP or SMTP server that keeps what it is given, and can be told to behave badly.

    with Sink('lmtp') as sink: ...
    sink.mails    [(sender, [recipients], message as bytes, dots unstuffed)], only those that were accepted for somebody
    sink.says     { 'RCPT': b'550 no\r\n' } instead of the usual answer; a function of the line gives one or None; after '.' in LMTP one
                  reply a recipient, with the key '.' as a function of (recipient)
    sink.hang     a verb after which it says nothing more; sink.drop: after which it closes
"""
import socket
import threading


class Sink:
    def __init__(self, protocol='lmtp', address=None):
        self.protocol = protocol
        self.mails, self.said, self.says = [], [], {}
        self.hang = self.drop = None
        self.extensions = ['PIPELINING', '8BITMIME', 'SIZE 10485760']
        self.family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.address = address or ('127.0.0.1', 0)

    def __enter__(self):
        self.listener = socket.socket(self.family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(self.address)
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1] if self.family == socket.AF_INET else None
        self.ending = False
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, kind, value, trace):
        self.ending = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            if self.ending:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            with s, s.makefile('rb') as f:
                self.talk(s, f)
        except OSError:
            pass

    def answer(self, s, verb, line, usual):
        """True: the connection goes on."""
        if self.drop == verb:
            return False
        if self.hang == verb:
            s.recv(1)
            return False
        own = self.says.get(verb)
        s.sendall((own(line) if callable(own) else own) or usual)
        return True

    def talk(self, s, f):
        sender, rcpts = None, []
        if not self.answer(s, 'GREETING', b'', b'220 sink\r\n'):
            return
        for line in f:
            self.said.append(line)
            verb = line.split()[0].upper().decode('latin-1') if line.split() else ''
            hello = 'LHLO' if self.protocol == 'lmtp' else 'EHLO'
            usual = b'250 ok\r\n'
            if verb == hello:
                words = ['sink'] + self.extensions
                usual = b''.join(b'250%s%s\r\n' % (b' ' if w is words[-1] else b'-', w.encode()) for w in words)
            elif verb in ('EHLO', 'LHLO', 'HELO'):
                usual = b'500 other protocol\r\n'
            elif verb == 'DATA':
                usual = b'354 go on\r\n' if rcpts else b'503 nobody\r\n'
            elif verb == 'QUIT':
                usual = b'221 bye\r\n'
            if not self.answer(s, verb, line, usual):
                return
            own = self.says.get(verb)
            good = (own(line) if callable(own) else own or usual or b'')
            good = good is None or good[:1] in b'23'
            if verb == 'MAIL' and good:
                sender, rcpts = line[line.index(b'<') + 1:line.index(b'>')].decode(), []
            elif verb == 'RCPT' and good:
                rcpts.append(line[line.index(b'<') + 1:line.rindex(b'>')].decode())
            elif verb == 'DATA' and good and rcpts:
                if not self.data(s, f, sender, rcpts):
                    return
                sender, rcpts = None, []
            elif verb == 'QUIT':
                return

    def data(self, s, f, sender, rcpts):
        message = b''
        for line in f:
            if line == b'.\r\n':
                break
            message += line[1:] if line.startswith(b'.') else line
        else:
            return False
        taken, replies = [], []
        for r in (rcpts if self.protocol == 'lmtp' else rcpts[:1]):
            own = self.says.get('.')
            replies.append((own(r) if callable(own) else own) or b'250 taken\r\n')
            if replies[-1].startswith(b'2'):
                taken += [r] if self.protocol == 'lmtp' else rcpts
        if taken:
            self.mails.append((sender, taken, message))  # before the answer: whoever has that may look
        return all(self.answer(s, 'END', b'', reply) for reply in replies)
