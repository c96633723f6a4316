# SPDX-License-Identifier: Apache-2.0
"""compare: two reports side by side: what differs, and by how much. A figure that differs by less than the search's own step is "the same"."""

import os
from html import escape

from . import figures, folder, page, workload

SAME = 0.08  # the search stops when good and bad are 7 % apart; two runs of one server differ by about as much


def rows(a, b):
    """[(words, key, better)] of what both have; better: +1 more is better, -1 less, 0 neither."""
    out = [("accounts held", "best.accounts", 1)]
    for key in sorted(set(a) & set(b)):
        part = key.split(".")
        if part[0] == "found" and part[2] == "accounts":
            out.append(("accounts held, %s" % ("1 shard" if part[1] == "1" else part[1] + " shards"), key, 1))
    out += [("cores for 100k accounts", "per.cpu", -1), ("disk written, 100k accounts, a second", "per.write_s", -1),
            ("memory of an idle session", "held.user", -1), ("server's memory", "memory.base", -1)]
    for key in sorted(set(a) & set(b)):
        part = key.split(".")
        if part[0] == "cost" and part[-1] == "cpu_us" and part[1] != "all":
            out.append(("CPU of one: %s" % part[1], key, -1))
    for key in sorted(set(a) & set(b)):
        part = key.split(".")
        if part[0] == "point" and part[1] == "100" and part[-1] == "p99":
            out.append(("p99 at 100 %%: %s" % part[2], key, -1))
    out += [("nodes", "plan.nodes", -1), ("memory of a node", "plan.memory", -1), ("other programs' cores, at most", "others", 0)]
    return [(words, key, better) for words, key, better in out if key in a and key in b and (a.of(key) or b.of(key))]


def judged(a, b, better):
    """(difference or None, "same" | "better" | "worse" | "differs")."""
    if not a:
        return None, "differs"
    change = b / a - 1
    if abs(change) <= SAME:
        return change, "same"
    return change, "differs" if not better else "better" if change * better > 0 else "worse"


def text(names, table):
    width = max(len(w) for w, *_ in table)
    lines = ["%-*s  %14s  %14s  %8s" % (width, "", names[0], names[1], "")]
    for words, _, x, y, change, verdict in table:
        lines.append("%-*s  %14s  %14s  %8s  %s" % (width, words, x["text"].strip(), y["text"].strip(), "" if change is None else "%+.0f %%" % (100 * change),
                                                   "" if verdict == "same" else verdict))
    return "\n".join(lines)


def html(names, titles, table, notes):
    body = []
    for words, key, x, y, change, verdict in table:
        half = min(50.0, abs(change or 0) * 50)
        colour = {"better": "var(--good)", "worse": "var(--bad)"}.get(verdict, "var(--soft)")
        bar = '<svg viewBox="0 0 100 10" width="100" height="10" aria-hidden="true"><line x1="50" y1="0" x2="50" y2="10" class="axis"/><rect x="%.1f" y="2" ' \
              'width="%.1f" height="6" style="fill:%s"/></svg>' % (50 if (change or 0) >= 0 else 50 - half, half, colour)
        cells = "".join('<td><data data-key="%s" data-side="%s" value="%r">%s</data></td>' % (escape(key), side, v["value"], escape(v["text"]))
                        for side, v in (("a", x), ("b", y)))
        body.append('<tr><td>%s</td>%s<td>%s</td><td style="width:110px">%s</td><td style="color:%s">%s</td></tr>' % (
            page._number_words(words), cells, "" if change is None else '<data data-key="%s" data-side="change" value="%r">%+.0f %%</data>' % (
                escape(key), change, 100 * change), bar, colour, "" if verdict == "same" else verdict))
    warn = "".join('<p class="box warn">%s</p>' % escape(n) for n in notes)
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            '<link rel="icon" href="data:,"><title>Penfold capacity: comparison</title><style>%s</style></head><body><main><h1>Two capacity reports</h1>'
            '<p class="lead">%s</p>%s<div class="box scroll"><table><thead><tr><th></th><th>%s</th><th>%s</th><th></th><th></th><th></th></tr></thead><tbody>%s</tbody>'
            '</table></div><p><small>Differences of less than <span class="given">%d %%</span> are within the search\'s own steps and are called the same.</small></p>'
            '</main></body></html>\n' % (page.STYLE, page._number_words(" and ".join(titles)), warn, page._number_words(names[0]), page._number_words(names[1]),
                                       "\n".join(body), round(100 * SAME)))


def run(a, b, out):
    sides = [folder.read(where) for where in (a, b)]
    f = [figures.derive(*side) for side in sides]
    names = [os.path.basename(os.path.normpath(where)) for where in (a, b)]
    if names[0] == names[1]:
        names = [a, b]
    notes = []
    if sides[0][0]["profile"] != sides[1][0]["profile"]:
        notes.append("The profiles differ: these are not the same work.")
    for key, what in (("cpu", "processors"), ("cores", "numbers of cores"), ("memory_bytes", "sizes of memory"), ("kernel", "kernels")):
        if sides[0][0]["machine"][key] != sides[1][0]["machine"][key]:
            notes.append("The machines' %s differ: %s and %s." % (what, sides[0][0]["machine"][key], sides[1][0]["machine"][key]))
    for name, x in zip(names, f):
        if x.of("believe.crowded"):
            notes.append("%s was measured on a machine that was not quiet." % name)
    alike = sides[0][0]["profile"] == sides[1][0]["profile"]  # else nothing is better or worse
    table = [(words, key, f[0][key], f[1][key], *judged(f[0].of(key), f[1].of(key), better if alike else 0)) for words, key, better in rows(*f)]
    print("\n".join(notes + [text(names, table)]))
    if out:
        titles = ["%s: %s" % (n, workload.Profile(side[0]["profile"], side[0]["profile_name"]).title) for n, side in zip(names, sides)]
        with open(out, "w") as file:
            file.write(html(names, titles, table, notes))
        print("comparison: %s" % out)
    return 0
