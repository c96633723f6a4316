# SPDX-License-Identifier: Apache-2.0
"""plot: small pictures in SVG, drawn by the page's own style sheet (so that light and dark are one picture).

Each takes numbers and returns text. A mark carries the numbers it stands for (data-x, data-y, or data-value) and a title that a
pointer shows. Axes are ticks of 1, 2 and 5 times a power of ten."""

import math
from html import escape


def num(v):
    """Coordinates: short and the same everywhere."""
    return ("%.1f" % v).rstrip("0").rstrip(".")


def exact(v):
    return repr(round(v, 6))


def ticks(low, high, most=6):
    """Round numbers within a range."""
    span = (high - low) or 1
    step = 10 ** math.floor(math.log10(span / most))
    step = next(step * m for m in (1, 2, 5, 10) if span / (step * m) <= most)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, int(math.floor(high / step + 1e-9)) + 1)]


class Frame:
    """Axes: x linear, y linear or logarithmic."""

    def __init__(self, width, height, x, y, log=False, left=76, bottom=44, top=14, right=18):
        self.width, self.height, self.x, self.y, self.log = width, height, x, y, log
        self.left, self.bottom, self.top, self.right = left, bottom, top, right
        self.parts = []

    def px(self, v):
        return self.left + (v - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right)

    def py(self, v):
        low, high = self.y
        if self.log:
            v, low, high = math.log10(max(v, low)), math.log10(low), math.log10(high)
        return self.height - self.bottom - (min(v, high) - low) / (high - low) * (self.height - self.top - self.bottom)

    def add(self, text):
        self.parts.append(text)

    def text(self, x, y, words, cls="tick", anchor="middle"):
        self.add('<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>' % (num(x), num(y), cls, anchor, escape(words)))

    def line(self, x1, y1, x2, y2, cls):
        self.add('<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>' % (num(x1), num(y1), num(x2), num(y2), cls))

    def axes(self, x_ticks, x_words, y_ticks, y_words, x_title, y_title):
        bottom, right = self.height - self.bottom, self.width - self.right
        for v in y_ticks:
            self.line(self.left, self.py(v), right, self.py(v), "grid")
            self.text(self.left - 7, self.py(v) + 4, y_words(v), anchor="end")
        for v in x_ticks:
            self.line(self.px(v), bottom, self.px(v), bottom + 4, "axis")
            self.text(self.px(v), bottom + 17, x_words(v))
        self.line(self.left, bottom, right, bottom, "axis")
        self.text((self.left + right) / 2, self.height - 6, x_title, "title")
        self.add('<text x="14" y="%s" class="title" text-anchor="middle" transform="rotate(-90 14 %s)">%s</text>' % (
            num((self.top + bottom) / 2), num((self.top + bottom) / 2), escape(y_title)))

    def dot(self, x, y, cls, title, radius=4.5, **data):
        marks = "".join(' data-%s="%s"' % (k, v) for k, v in data.items())
        self.add('<circle cx="%s" cy="%s" r="%s" class="%s" data-x="%s" data-y="%s"%s><title>%s</title></circle>' % (
            num(self.px(x)), num(self.py(y)), radius, cls, exact(x), exact(y), marks, escape(title)))

    def path(self, points, cls):
        self.add('<path d="M%s" class="%s"/>' % (" L".join("%s %s" % (num(self.px(x)), num(self.py(y))) for x, y in points), cls))

    def svg(self, label):
        return '<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>' % (self.width, self.height, escape(label), "".join(self.parts))


def accounts_words(v):
    return "0" if v == 0 else ("%g M" % (v / 1e6) if v >= 1e6 else "%g k" % (v / 1e3) if v >= 1e3 else "%g" % v)


def percent_words(v):
    return "%g %%" % (100 * v)


def goals(runs, found):
    """How much of its goal the worst stream used, over the load. runs: [(number, shards, accounts, share, verdict, title)];
    found: [(shards, accounts, words)]."""
    most = max([r[2] for r in runs] + [1])
    high = 10 ** math.ceil(math.log10(max(2.0, max(r[3] for r in runs))))
    low = 10 ** math.floor(math.log10(max(1e-3, min(r[3] for r in runs))))
    f = Frame(540, 320, (0, most * 1.05), (low, high), log=True)
    y_ticks = [10.0 ** e for e in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    f.axes(ticks(0, most * 1.05), accounts_words, y_ticks, percent_words, "accounts of this profile served at once", "share of the goal used")
    f.add('<rect x="%s" y="%s" width="%s" height="%s" class="over"/>' % (num(f.left), num(f.top), num(f.width - f.left - f.right),
                                                                      num(f.py(1) - f.top)))
    f.line(f.left, f.py(1), f.width - f.right, f.py(1), "goal")
    f.text(f.left + 6, f.py(1) - 6, "goal missed above this line", "note", "start")
    shards = sorted({r[1] for r in runs})
    for i, n in enumerate(shards):
        line = sorted((r[2], r[3]) for r in runs if r[1] == n and r[4] == "good")
        if len(line) > 1:
            f.path(line, "line c%d" % (i % 6))
    for n, accounts, words in found:
        i = shards.index(n)
        f.line(f.px(accounts), f.top, f.px(accounts), f.height - f.bottom, "found c%d" % (i % 6))
        f.text(f.px(accounts) - 5, f.height - f.bottom - 8 - 15 * i, words, "label c%d" % (i % 6), "end")
    for number, n, accounts, share, verdict, title in runs:
        f.dot(accounts, share, "mark c%d %s" % (shards.index(n) % 6, verdict), title, run=number)
    return f.svg("share of the latency goal used over the number of accounts")


def bars(rows):
    """Resources: [(words, share, note)], share of the limit in use."""
    height = 34 * len(rows) + 26
    left, width, right = 118, 540, 150
    out = []
    room = width - left - right
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = left + room * tick
        out.append('<line x1="%s" y1="4" x2="%s" y2="%d" class="%s"/>' % (num(x), num(x), height - 20, "goal" if tick == 1 else "grid"))
        out.append('<text x="%s" y="%d" class="tick" text-anchor="middle">%s</text>' % (num(x), height - 6, percent_words(tick)))
    for i, (words, share, note) in enumerate(rows):
        y = 8 + 34 * i
        out.append('<text x="%d" y="%d" class="name" text-anchor="end">%s</text>' % (left - 10, y + 15, escape(words)))
        out.append('<rect x="%d" y="%d" width="%s" height="20" rx="3" class="bar%s" data-value="%s"/>' % (
            left, y, num(max(1.5, room * min(1, share))), " full" if i == 0 else "", exact(share)))
        out.append('<text x="%d" y="%d" class="tick" text-anchor="start">%s</text>' % (width - right + 12, y + 14, escape(note)))
    return '<svg viewBox="0 0 %d %d" role="img" aria-label="use of each resource">%s</svg>' % (width, height, "".join(out))


def latencies(rows, colours):
    """[(stream, goal ms, [(percent, ms, low, high)])] as dots on a logarithmic axis of time, a goal's tick in each row."""
    values = [v for _, goal, dots in rows for v in [goal] + [x for _, ms, low, high in dots for x in (ms, low, high)] if v > 0]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values) * 1.01))
    width, left, right, row = 540, 112, 22, 36
    height = row * len(rows) + 44

    def px(ms):
        return left + (math.log10(max(ms, low)) - math.log10(low)) / (math.log10(high) - math.log10(low)) * (width - left - right)

    out = []
    for e in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x, ms = px(10 ** e), 10 ** e
        out.append('<line x1="%s" y1="6" x2="%s" y2="%d" class="grid"/>' % (num(x), num(x), height - 36))
        out.append('<text x="%s" y="%d" class="tick" text-anchor="middle">%s</text>' % (
            num(x), height - 22, "%g s" % (ms / 1000) if ms >= 1000 else "%g ms" % ms))
    out.append('<text x="%s" y="%d" class="title" text-anchor="middle">latency at the goal\'s percentile; bar: 95 %% interval; tick: goal</text>' % (
        num((left + width - right) / 2), height - 4))
    for i, (name, goal, dots) in enumerate(rows):
        y = 6 + row * i + row / 2
        out.append('<text x="%d" y="%s" class="name" text-anchor="end">%s</text>' % (left - 10, num(y + 4), escape(name)))
        out.append('<line x1="%d" y1="%s" x2="%d" y2="%s" class="grid"/>' % (left, num(y), width - right, num(y)))
        out.append('<line x1="%s" y1="%s" x2="%s" y2="%s" class="goal"/>' % (num(px(goal)), num(y - 10), num(px(goal)), num(y + 10)))
        for j, (percent, ms, least, most) in enumerate(dots):
            at = y + 7 * (j - 1)
            cls = "c%d" % colours[percent]
            out.append('<line x1="%s" y1="%s" x2="%s" y2="%s" class="whisker %s"/>' % (num(px(least)), num(at), num(px(most)), num(at), cls))
            out.append('<circle cx="%s" cy="%s" r="3.6" class="mark good %s" data-x="%s" data-percent="%d"><title>%s</title></circle>' % (
                num(px(ms)), num(at), cls, exact(ms), percent, escape("%s at %d %%: %.2f ms" % (name, percent, ms))))
    return '<svg viewBox="0 0 %d %d" role="img" aria-label="latencies of each stream">%s</svg>' % (width, height, "".join(out))


def scaling(points, curve, linear, most):
    """points: [(shards, accounts)]; curve and linear: [(x, y)]."""
    high = max([y for _, y in points] + [y for _, y in linear]) * 1.08
    f = Frame(540, 280, (0, most * 1.08), (0, high))
    f.axes(list(range(0, most + 1, max(1, most // 8))), lambda v: "%g" % v, ticks(0, high, 5), accounts_words, "shards", "accounts, CPU full")
    f.path(linear, "ideal")
    f.text(f.px(linear[-1][0]) - 6, f.py(linear[-1][1]) + 4, "linear", "note", "end")
    f.path(curve, "line c0")
    for i, (n, y) in enumerate(points):
        f.dot(n, y, "mark c1 good", "%d shards: %.0f accounts" % (n, y), 4, residual=i)
    return f.svg("accounts over the number of shards")
