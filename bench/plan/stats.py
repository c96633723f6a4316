# SPDX-License-Identifier: Apache-2.0
"""stats: percentiles out of buckets, Little's law, the Universal Scalability Law, Student's t.

Pure functions of numbers; no I/O, no state. What they promise is tested with synthetic data in
tests/e2e/test_plan.py: the fit finds the parameters that made the data, the percentiles are those
of the sorted values, and a generator that lies is caught.
"""

import math

# ---- percentiles ------------------------------------------------------------------------------------------------------

def coarse(buckets, bits=5):
    """The generator's buckets ([largest value, count], ascending) in 2**bits steps an octave: smaller files.

    A bucket keeps the largest value of its members, so that a percentile never comes out too small; with 5
    bits it comes out at most 1/32 too large."""
    out = []
    for top, count in buckets:
        shift = max(0, int(top).bit_length() - bits - 1)
        edge = (((int(top) >> shift) + 1) << shift) - 1
        if out and out[-1][0] == edge:
            out[-1][1] += count
        else:
            out.append([edge, count])
    return out


def rank(buckets, wanted):
    """The value of the wanted-th smallest (from 1) of all that were counted."""
    seen = 0
    for top, count in buckets:
        seen += count
        if seen >= wanted:
            return top
    return buckets[-1][0] if buckets else 0


def percentile(buckets, percent):
    """The smallest bucket's end that at least `percent` of all values do not exceed; 0 of nothing."""
    total = sum(count for _, count in buckets)
    return rank(buckets, max(1, math.ceil(total * percent / 100 - 1e-9))) if total else 0


def percentile_interval(buckets, percent, z=1.96):
    """Where the true percentile lies with 95 %: order statistics, binomial, by its normal approximation."""
    total = sum(count for _, count in buckets)
    if not total:
        return 0, 0
    p = percent / 100
    middle, half = total * p, z * math.sqrt(total * p * (1 - p))
    return rank(buckets, max(1, math.floor(middle - half))), rank(buckets, min(total, math.ceil(middle + half) + 1))


# ---- Little's law --------------------------------------------------------------------------------------------------------

def little(present_s, window_s, arrivals, latency_sum_s, present_start=0, present_end=0, latency_max_s=0.0, tolerance=0.05):
    """Holds N (operations present on average, from counters) against X * R (arrivals a second times mean latency).

    N = X R for any system, so a difference means that somebody has not told the truth: a generator that starts
    its clocks late, leaves slow answers out, or does not send what it says it sends. What is present at the window's
    ends is counted on one side only: at most all of it for the longest latency, and that much is allowed for.
    Returns (N, X * R, difference, allowed, good)."""
    n = present_s / window_s
    xr = latency_sum_s / window_s
    edges = (present_start + present_end) * latency_max_s / window_s
    allowed = tolerance * max(n, xr) + edges + 1e-4 * math.sqrt(max(arrivals, 1)) / window_s
    return n, xr, abs(n - xr), allowed, abs(n - xr) <= allowed


# ---- Student's t ------------------------------------------------------------------------------------------------------

def _incomplete_beta(a, b, x):
    """The regularised incomplete beta function, by its continued fraction."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(1 - x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or 1e-30)
    f = d
    for m in range(1, 300):
        for top in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / (1 + top * d or 1e-30)
            c = 1 + top / c or 1e-30
            f *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return front * f


def t_quantile(freedom, p=0.975):
    """The p-quantile (p >= 0.5) of Student's t."""
    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        below = 1 - 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + middle * middle))
        low, high = (middle, high) if below < p else (low, middle)
    return (low + high) / 2


def mean_interval(values):
    """Mean and the half-width of its 95 % interval; None where one value has no spread."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, None
    variance = sum((v - mean) ** 2 for v in values) / (n - 1)
    return mean, t_quantile(n - 1) * math.sqrt(variance / n)


# ---- the Universal Scalability Law --------------------------------------------------------------------------------------

def usl(n, rate, sigma, kappa):
    """Throughput of n processors: X(n) = rate n / (1 + sigma (n - 1) + kappa n (n - 1)) (Gunther)."""
    return rate * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def _solve(matrix, right):
    """Gauss with pivots; None when singular."""
    n = len(right)
    rows = [list(matrix[i]) + [right[i]] for i in range(n)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        if abs(rows[pivot][i]) < 1e-300:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(n):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i])]
    return [rows[i][n] / rows[i][i] for i in range(n)]


def _normal(points, free, values):
    """J'J and J'r of the law in its relative form (residuals divided by the measured rate), at `values`."""
    rate, sigma, kappa = values
    jtj = [[0.0] * len(free) for _ in free]
    jtr = [0.0] * len(free)
    for n, x in points:
        below = 1 + sigma * (n - 1) + kappa * n * (n - 1)
        model = rate * n / below
        slope = [model / rate, -model * (n - 1) / below, -model * n * (n - 1) / below]
        row = [slope[f] / x for f in free]
        residual = (x - model) / x
        for i, a in enumerate(row):
            jtr[i] += a * residual
            for j, b in enumerate(row):
                jtj[i][j] += a * b
    return jtj, jtr


def _squares(points, values):
    return sum(((x - usl(n, *values)) / x) ** 2 for n, x in points)


def _descend(points, free, values):
    """Levenberg and Marquardt over the free parameters."""
    damp = 1e-3
    best = _squares(points, values)
    for _ in range(500):
        jtj, jtr = _normal(points, free, values)
        step = _solve([[jtj[i][j] + (damp * (jtj[i][i] or 1e-12) if i == j else 0) for j in range(len(free))]
                       for i in range(len(free))], jtr)
        if step is None:
            break
        tried = list(values)
        for f, s in zip(free, step):
            tried[f] += s
        if tried[0] <= 0 or any(1 + tried[1] * (n - 1) + tried[2] * n * (n - 1) <= 0 for n, _ in points):
            damp *= 10
            continue
        now = _squares(points, tried)
        if now <= best:
            done = best - now <= 1e-15 * max(best, 1e-30)
            values, best, damp = tried, now, max(damp / 10, 1e-12)
            if done:
                break
        else:
            damp *= 10
            if damp > 1e12:
                break
    return values


def usl_fit(points):
    """Fits the law to [(n, rate)], repeated measurements of the same n included.

    Three parameters need three different n: with two, kappa is held at 0 and only sigma is asked for; with one, neither can
    be. What the data cannot tell is None, never a guess. Intervals are 95 %, from the residuals' variance and the law's slopes;
    None where no degree of freedom is left. Returns a dict: rate, sigma, kappa, each with *_half (of the interval), distinct,
    freedom, residuals [(n, measured, fitted, relative)], rms (relative), peak (n of the most throughput, None: none known)."""
    distinct = sorted({n for n, _ in points})
    free = [0, 1, 2][:min(3, len(distinct))]
    at_one = [x / n for n, x in points if n == distinct[0]]
    values = _descend(points, free, [sum(at_one) / len(at_one), 0.01 if 1 in free else 0.0, 0.0001 if 2 in free else 0.0])
    freedom = len(points) - len(free)
    halves = [None, None, None]
    if freedom > 0:
        jtj, _ = _normal(points, free, values)
        variance = _squares(points, values) / freedom
        for i, f in enumerate(free):
            column = _solve(jtj, [1.0 if j == i else 0.0 for j in range(len(free))])
            if column is not None:
                halves[f] = t_quantile(freedom) * math.sqrt(max(0.0, variance * column[i]))
    known = [f in free for f in range(3)]
    rate, sigma, kappa = values
    residuals = [(n, x, usl(n, *values), (x - usl(n, *values)) / x) for n, x in points]
    return {
        "rate": rate, "sigma": sigma if known[1] else None, "kappa": kappa if known[2] else None,
        "rate_half": halves[0], "sigma_half": halves[1], "kappa_half": halves[2],
        "distinct": distinct, "freedom": freedom, "residuals": residuals,
        "rms": math.sqrt(_squares(points, values) / len(points)),
        "peak": math.sqrt((1 - sigma) / kappa) if known[2] and kappa > 0 and sigma < 1 else None,
    }
