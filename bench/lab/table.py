# SPDX-License-Identifier: Apache-2.0
"""table: medians, and text tables whose columns line up."""

import statistics


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def ratio(a, b):
    return a / b if a and b else None


def show(value, digits=1):
    return "-" if value is None else "%.*f" % (digits, value)


def judged(value, target, at_most):
    """A ratio with its target and whether it is met: "1.7x (<= 2) ok"."""
    if value is None:
        return "-"
    text = "%.2fx" % value if value < 10 else "%.1fx" % value
    if target is None:
        return text
    good = value <= target if at_most else value >= target
    return "%s (%s %g) %s" % (text, "<=" if at_most else ">=", target, "ok" if good else "MISSED")


def text(header, rows):
    table = [header] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = []
    for n, row in enumerate(table):
        lines.append("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))))
        if n == 0:
            lines.append("  ".join("-" * w for w in widths))
    return "\n".join(lines)
