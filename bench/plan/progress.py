# SPDX-License-Identifier: Apache-2.0
"""progress: a bar on a terminal, a line a step elsewhere; both on standard error."""

import os
import sys
import time


class Progress:
    def __init__(self, expected_s, out=sys.stderr):
        self.expected_s = max(1.0, expected_s)
        self.out = out
        self.began = time.monotonic()
        self.words = ""
        self.terminal = out.isatty()

    def elapsed(self):
        return time.monotonic() - self.began

    def bar(self, width=24):
        share = min(0.99, self.elapsed() / self.expected_s)
        full = int(width * share)
        left = max(0, self.expected_s - self.elapsed())
        return "[%s%s] %3d %%  about %d:%02d left" % ("#" * full, "." * (width - full), 100 * share, left // 60, left % 60)

    def step(self, words):
        """What is being done now."""
        self.words = words
        if self.terminal:
            self._draw()
        else:
            print("%s  %s" % (self.bar(), words), file=self.out, flush=True)

    def tick(self):
        if self.terminal:
            self._draw()

    def say(self, words):
        """A line that stays."""
        print(("\r\033[K" if self.terminal else "") + words, file=self.out, flush=True)
        self.tick()

    def _draw(self):
        room = max(20, os.get_terminal_size(self.out.fileno()).columns - 1)
        print("\r\033[K" + (self.bar() + "  " + self.words)[:room], end="", file=self.out, flush=True)

    def end(self):
        if self.terminal:
            print("\r\033[K", end="", file=self.out, flush=True)
