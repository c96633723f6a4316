# SPDX-License-Identifier: Apache-2.0
"""bench/plan: its statistics against synthetic data, its generator against lies, and one whole plan of a tiny profile,
whose every number is made again from the raw data here, and which a browser must show."""
import csv
import html.parser
import json
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib

import pytest

import penfold as house
from penfold import TOP, Penfold

sys.path.insert(0, os.path.join(TOP, 'bench'))

from plan import figures, judge, record, stats, workload  # noqa: E402

BUILD = os.path.dirname(os.path.abspath(house.BINARY))
LOAD = os.path.join(BUILD, 'bench', 'load')
TINY = os.path.join(TOP, 'tests', 'e2e', 'tiny.conf')
PYTHON = '/usr/bin/python3'


@pytest.fixture(scope='module', autouse=True)
def built():
    if not os.access(LOAD, os.X_OK):
        subprocess.run(['make', f'BUILD={os.path.relpath(BUILD, TOP)}', os.path.relpath(LOAD, TOP)], cwd=TOP, check=True, stdout=subprocess.DEVNULL,
                       env={k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))})


# ---- statistics ----

def buckets_of(values):
    """As the generator counts: exact below 128, then 64 steps an octave."""
    out = {}
    for v in values:
        shift = max(0, v.bit_length() - 7)
        top = (((v >> shift) + 1) << shift) - 1
        out[top] = out.get(top, 0) + 1
    return [[top, out[top]] for top in sorted(out)]


def test_percentiles_are_those_of_the_sorted_values():
    dice = random.Random(1)
    values = sorted(int(dice.lognormvariate(13, 1.5)) for _ in range(5000))
    for kept, error in ((buckets_of(values), 1 / 64), (stats.coarse(buckets_of(values)), 1 / 32), (stats.coarse(buckets_of(values), 2), 1 / 4)):
        assert sum(n for _, n in kept) == len(values)
        for p in (1, 50, 90, 95, 99, 99.9, 100):
            true = values[max(0, math.ceil(len(values) * p / 100) - 1)]
            assert true <= stats.percentile(kept, p) <= true * (1 + error) + 1, p
    assert stats.percentile([], 99) == 0
    assert stats.percentile([[5, 1]], 99) == 5


def test_a_percentile_lies_in_its_interval():
    """95 % intervals hold the true value about as often as they say: in 400 samples at least 90 %."""
    dice = random.Random(2)
    true = -math.log(0.05) * 1e6
    inside = 0
    for _ in range(400):
        low, high = stats.percentile_interval(buckets_of([int(dice.expovariate(1) * 1e6) for _ in range(300)]), 95)
        inside += low <= true <= high
    assert inside >= 360


@pytest.mark.parametrize('freedom, quantile', [(1, 12.7062), (2, 4.3027), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)])
def test_students_t(freedom, quantile):
    assert abs(stats.t_quantile(freedom) - quantile) < 2e-4


@pytest.mark.parametrize('rate, sigma, kappa', [(1000, 0.05, 0.001), (3e6, 0.2, 0.0), (7, 0.0, 0.01), (120, 0.01, 0.0002)])
def test_the_fit_finds_what_made_the_data(rate, sigma, kappa):
    fit = stats.usl_fit([(n, stats.usl(n, rate, sigma, kappa)) for n in (1, 2, 3, 4, 8, 16, 32)])
    assert abs(fit['rate'] / rate - 1) < 1e-5 and abs(fit['sigma'] - sigma) < 1e-5 and abs(fit['kappa'] - kappa) < 1e-6
    assert fit['rms'] < 1e-6
    if kappa > 0:
        assert abs(fit['peak'] / math.sqrt((1 - sigma) / kappa) - 1) < 1e-3


def test_its_intervals_hold_the_truth_as_often_as_they_say():
    dice = random.Random(3)
    inside = [0, 0, 0]
    for _ in range(200):
        fit = stats.usl_fit([(n, stats.usl(n, 500, 0.06, 0.002) * (1 + dice.gauss(0, 0.02))) for n in (1, 2, 4, 8, 12, 16) for _ in range(2)])
        for i, (name, true) in enumerate((('rate', 500), ('sigma', 0.06), ('kappa', 0.002))):
            inside[i] += abs(fit[name] - true) <= fit[name + '_half']
    assert all(180 <= n <= 199 for n in inside), inside


def test_what_two_numbers_of_shards_cannot_tell_is_not_told():
    fit = stats.usl_fit([(1, 100), (1, 102), (2, 180), (2, 182)])
    assert fit['kappa'] is None and fit['peak'] is None and 0.1 < fit['sigma'] < 0.13 and fit['sigma_half'] > 0 and fit['freedom'] == 2
    alone = stats.usl_fit([(1, 100), (2, 180)])
    assert alone['freedom'] == 0 and alone['sigma_half'] is None and alone['rms'] < 1e-9
    one = stats.usl_fit([(4, 100), (4, 104)])
    assert one['sigma'] is None and one['kappa'] is None and abs(4 * one['rate'] - 102) < 0.2


# ---- Little's law, and generators that lie ----

def simulated(rate, service, servers, seconds, seed=4):
    """An M/M/c queue: [(arrival, end)]."""
    dice = random.Random(seed)
    free, now, out = [0.0] * servers, 0.0, []
    while True:
        now += dice.expovariate(rate)
        if now > seconds:
            return out
        i = min(range(servers), key=free.__getitem__)
        free[i] = max(now, free[i]) + dice.expovariate(1 / service)
        out.append((now, free[i]))


def held_against(jobs, told, seconds):
    """stats.little of what was present and the latencies that were told of it."""
    present = sum(min(end, seconds) - at for at, end in jobs)
    still = sum(1 for at, end in jobs if end > seconds)
    return stats.little(present, seconds, len(told), sum(told), 0, still, max(told))


@pytest.mark.parametrize('load', [0.3, 0.9, 1.3])
def test_an_honest_generator_keeps_littles_law(load):
    jobs = simulated(load * 400, 0.01, 4, 20)
    assert held_against(jobs, [end - at for at, end in jobs], 20)[-1]


def test_a_lying_generator_is_caught():
    jobs = simulated(0.9 * 400, 0.01, 4, 20)
    honest = [end - at for at, end in jobs]
    assert not held_against(jobs, [x * 0.85 for x in honest], 20)[-1], 'clocks that run slow'
    assert not held_against(jobs, [x for x in honest if x < 0.05], 20)[-1], 'slow answers left out'
    free, began = [0.0] * 4, []
    for (at, end) in jobs:  # counted from when a server was free, not from when it was meant to start: coordinated omission
        i = min(range(4), key=free.__getitem__)
        began.append(end - max(at, free[i]))
        free[i] = end
    assert not held_against(jobs, began, 20)[-1], 'coordinated omission'


def mix(p, folder, lines, *words, during=None):
    """One run of the real generator: its figures as measure.py keeps them."""
    path, out = os.path.join(folder, 'mix'), os.path.join(folder, 'out.json')
    with open(path, 'w') as f:
        f.write('\n'.join(lines) + '\n')
    run = subprocess.Popen([LOAD, '--mix', path, '--password', house.PASSWORD, '--json', out, '--server-pid', str(p.process.pid), '--max-errors', '1000', *words])
    if during:
        during(run)
    assert run.wait(60) in (0, 1)
    with open(out) as f:
        figures_ = json.load(f)
    figures_.update(kind='search', others_cores=0)
    return figures_


def polls(p, rate=300, connections=4):
    return [f'--tag poll --scenario pop3-check --address 127.0.0.1:{p.pop3_port} --rate {rate} --connections {connections} --last {connections}']


SIMPLE = workload.Profile('[profile]\nstored_bytes = 1\nerrors = 0\npopulation = 10\n[pool a]\nshare = 100\n[stream poll]\nscenario = pop3-check\npool = a\n'
                          'per_1000_s = 1\ngoal = p99 400\n', 'simple')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('plan'), shards=1, accounts=[f'user{n}' for n in range(1, 21)]) as p:
        yield p


def pause(process, after, seconds):
    """Stops a process of ours for a while."""
    time.sleep(after)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGCONT)


def test_a_generator_that_was_late_is_not_believed(server, tmp_path):
    run = mix(server, str(tmp_path), polls(server), '--seconds', '2', during=lambda generator: pause(generator, 0.7, 0.8))
    assert any('late' in words for words in judge.doubts(run, SIMPLE)), judge.doubts(run, SIMPLE)


def test_a_stalled_server_is_charged_for_all_who_would_have_come(server, tmp_path):
    """Latency counts from the time of arrival: in a closed loop four operations would have been slow."""
    run = mix(server, str(tmp_path), polls(server), '--seconds', '2', during=lambda _: pause(server.process, 0.7, 0.8))
    slow = sum(n for top, n in run['streams'][0]['latency']['buckets'] if top > 100e6)
    assert slow > 100, slow
    assert not [w for w in judge.doubts(run, SIMPLE) if 'Little' in w], judge.doubts(run, SIMPLE)
    assert any('p99' in words for words in judge.misses(run, SIMPLE))


def test_arrivals_come_when_the_file_says(server, tmp_path):
    at = [0.1, 0.1, 0.35, 0.9, 5.0]
    (tmp_path / 'times').write_text('\n'.join(str(t) for t in at))
    lines = [polls(server)[0].replace('--rate 300', f'--arrivals {tmp_path}/times')]
    run = mix(server, str(tmp_path), lines, '--seconds', '1.5')
    assert run['streams'][0]['offered'] == 4 and run['streams'][0]['operations'] == 4


def test_errors_are_not_good_enough(server, tmp_path):
    lines = [polls(server)[0].replace('--last 4', '--last 4 --password wrong')]
    run = mix(server, str(tmp_path), lines, '--seconds', '0.6')
    assert any('errors' in words for words in judge.misses(run, SIMPLE)), run['streams'][0]


# ---- profiles ----

@pytest.mark.parametrize('name', workload.names())
def test_profiles_are_whole(name):
    p = workload.load(name)
    assert p.source and p.about and all(s.first <= s.last <= p.accounts for s in p.streams)
    pop3 = [s for s in p.streams if s.scenario.startswith('pop3-')]
    assert all(a is b or a.last < b.first or b.last < a.first for a in pop3 for b in pop3), 'a maildrop has one session'


def test_specmail_is_as_published():
    """1,000,000 users at the peak: 83.33 messages/s with 2.0 recipients, 41.67 first and 125 repeated checks, 24.5 KB a message."""
    p = workload.load('specmail2001')
    assert [round(s.per_1000_s * 1000, 2) for s in p.streams] == [83.33, 41.67, 125.0]
    words = dict(zip(p.streams[0].options[::2], p.streams[0].options[1::2]))
    assert abs(sum(v * s for v, s in workload.weights(words['--recipients'], '')) - 2.0) < 0.03
    assert abs(sum(v * s for v, s in workload.weights(words['--size'], '')) / 1024 - 24.5) < 0.5
    assert abs(sum(v * s for v, s in p.pools['first'].messages) - 3.43) < 0.3


@pytest.mark.parametrize('change, words', [
    (('pop3-check', 'pop3-chek'), 'scenario: expected'), (('p99 400', '99'), 'goal: expected'), (('share = 100', 'share = 200'), 'share: expected'),
    (('pool = a', 'pool = b'), 'there is no [pool b]'), (('per_1000_s = 1', 'per_1000_s = -1'), 'per_1000_s: expected'), (('[pool a]', '[pond a]'), 'expected [profile]')])
def test_a_wrong_profile_is_named(change, words):
    with pytest.raises(workload.Wrong, match=re.escape(words)):
        workload.Profile(SIMPLE.text.replace(*change), 'simple')


# ---- a whole plan ----

def plan(*words, code=0):
    done = subprocess.run([PYTHON, 'bench/plan', *words], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    out = str(tmp_path_factory.mktemp('report') / 'tiny')
    said = plan('run', '--profile', TINY, '--out', out, '--build', BUILD, '--work', str(tmp_path_factory.mktemp('work')), '--shards', '1,2', '--seconds', '0.5',
                '--warmup', '0.1', '--pilot', '60', '--runs', '2', '--again', '2', '--small', '--accounts', '50000', '--port', str(house.free_ports(1)[0] - 100))
    assert '%' in said and 'accounts' in said  # it told how far it was
    return out


class Shown(html.parser.HTMLParser):
    """What a reader sees: the <data> elements, and all text outside of them, of given words, of code and of plots."""
    QUIET = {'style', 'title', 'svg', 'pre', 'time', 'abbr', 'code'}

    def __init__(self, text):
        super().__init__()
        self.data, self.text, self.marks, self.links = [], [], [], []
        self.stack = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.links += [v for k, v in attributes if k in ('src', 'href', 'xlink:href', 'action', 'background')]
        if tag == 'circle':
            self.marks.append(a)
        if tag in ('meta', 'link', 'br', 'circle', 'line', 'rect', 'path', 'i'):
            return
        quiet = tag in self.QUIET or a.get('class') == 'given'
        self.stack.append((tag, quiet))
        if tag == 'data':
            self.data.append([a, ''])

    def handle_endtag(self, tag):
        while self.stack and self.stack[-1][0] != tag and tag not in ('meta', 'link', 'br', 'circle', 'line', 'rect', 'path', 'i'):
            self.stack.pop()
        if self.stack and self.stack[-1][0] == tag:
            self.stack.pop()

    def handle_data(self, text):
        if self.stack and self.stack[-1][0] == 'data':
            self.data[-1][1] += text
        elif not any(quiet for _, quiet in self.stack):
            self.text.append(text)


def page_of(report):
    with open(os.path.join(report, 'index.html')) as f:
        return f.read()


def runs_of(report):
    with open(os.path.join(report, 'runs.csv')) as f:
        return list(csv.DictReader(f))


def test_every_number_is_a_figure(report):
    """Nothing with a digit stands outside of <data>, and each of these is what `figures` derives from the raw data."""
    shown = Shown(page_of(report))
    derived = json.loads(plan('figures', report))
    assert len(shown.data) > 200
    for a, text in shown.data:
        assert derived[a['data-key']]['text'] == text and repr(derived[a['data-key']]['value']) == a['value'], (a, text)
    stray = [t for t in shown.text if re.search(r'\d', t)]
    assert not stray, stray


def test_the_numbers_follow_from_the_table(report):
    """The arithmetic done again here, from runs.csv and raw.json alone."""
    f = {k: v['value'] for k, v in json.loads(plan('figures', report)).items()}
    table = runs_of(report)
    with open(os.path.join(report, 'raw.json')) as file:
        raw = json.load(file)
    # each percentile: from all values, one by one
    for run in raw['runs']:
        for s in run['streams']:
            values = [top for top, n in s['latency']['buckets'] for _ in range(n)]
            row = next(r for r in table if int(r['run']) == run['number'] and r['stream'] == s['tag'])
            for p, column in ((50, 'p50_ms'), (95, 'p95_ms'), (99, 'p99_ms'), (99.9, 'p999_ms')):
                if values:
                    assert abs(values[math.ceil(len(values) * p / 100 - 1e-9) - 1] / 1e6 - float(row[column])) < 1e-3
            assert abs(float(row['little_n']) - s['present_s'] / run['window_s']) < 1e-3
            assert abs(float(row['little_xr']) - s['latency']['sum_ns'] / 1e9 / run['window_s']) < 1e-3
    # the rate that was found, and the point at 100 %
    best = max(('1', '2'), key=lambda n: (raw['search'][n]['held'], raw['search'][n]['accounts']))
    last = [r for r in table if r['percent'] == '100' and r['shards'] == best]
    last = [r for r in last if r['run'] == max((r['run'] for r in last), key=int)]
    found = raw['search'][best]['accounts']
    assert f['best.accounts'] == found and abs(float(last[0]['accounts']) - found) <= 1 and f['best.shards'] == int(best)
    for r in last:
        assert abs(f[f"point.100.{r['stream']}.p99"] - float(r['p99_ms'])) < 1e-3
    # what it used
    cores, window, wrote = (float(last[0][k]) for k in ('server_cores', 'window_s', 'server_write_bytes'))
    done = sum(int(r['operations']) for r in last)
    assert abs(f[f'cost.all.{best}.cpu_us'] - cores * window / done * 1e6) < 0.05 * f[f'cost.all.{best}.cpu_us']
    assert abs(f['use.cpu'] - cores / int(best)) < 1e-3
    assert abs(f['use.disk_bytes'] - wrote / window / raw['disk']['bytes_per_s']) < 1e-6
    assert abs(f['per.out_s'] - sum(int(r['in_bytes']) for r in last) / window / found * 1e5) < 1e-3 * f['per.out_s'] + 1e-9
    alone = next(r for r in table if r['kind'] == 'closed' and r['stream'] == 'poll')
    assert abs(f['cost.poll.cpu_us'] - float(alone['server_cores']) * float(alone['window_s']) / int(alone['operations']) * 1e6) < 0.02 * f['cost.poll.cpu_us'] + 1
    # the plan
    each = max(0, raw['held']['held_bytes'] - raw['held']['before_bytes']) / raw['held']['sessions'] + figures.KERNEL_BYTES
    assert f['plan.accounts'] == 50000 and abs(f['memory.per_account'] - 0.5 * each) < 1
    by_memory = (0.8 * raw['machine']['memory_bytes'] - f['memory.base'] - figures.CACHE_BYTES) / f['memory.per_account']
    assert f['plan.needed'] == math.ceil(50000 / min(0.7 * found, by_memory)) and f['plan.nodes'] == f['plan.needed'] + 1
    assert f['plan.cores'] == f['plan.nodes'] * int(best)
    assert abs(f['plan.load_failed'] - 50000 / f['plan.needed'] / found) < 1e-9 and f['plan.load_failed'] <= 0.7
    assert abs(f['plan.disk'] - 50000 * 1e6 * 1.5) < 1
    # the fit
    points = [(f[f'usl.residual.{i}.n'], f[f'usl.residual.{i}.measured']) for i in range(f.get('usl.points', 0))]
    for i, (n, x) in enumerate(points):
        model = f['usl.rate'] * n / (1 + f.get('usl.sigma', 0) * (n - 1))
        assert abs(f[f'usl.residual.{i}'] - (x - model) / x) < 1e-6
    assert 'usl.kappa' not in f


def test_plots_show_the_runs(report):
    table = {r['run']: r for r in runs_of(report)}
    marks = [m for m in Shown(page_of(report)).marks if 'data-run' in m]
    assert {m['data-run'] for m in marks} == {n for n, r in table.items() if r['kind'] != 'closed'}
    for m in marks:
        assert abs(float(m['data-x']) - float(table[m['data-run']]['accounts'])) < 1
        assert table[m['data-run']]['verdict'] in m['class'].split()


def test_it_needs_nothing_else(report):
    text = page_of(report)
    assert len(text) < 1_000_000 and '<script' not in text and 'url(' not in text and '@import' not in text
    assert all(link.startswith('data:') for link in Shown(text).links)


def test_the_report_is_what_the_raw_data_say(report, tmp_path):
    assert 'follows from raw.json' in plan('verify', report)
    copy = shutil.copytree(report, tmp_path / 'copy')
    path = copy / 'index.html'
    path.write_text(re.sub(r'(<data[^>]*data-key="best.accounts"[^>]*>)[^<]*', r'\g<1>9,000,000', path.read_text()))
    assert 'not what raw.json says' in plan('verify', str(copy), code=1)
    shutil.copy(os.path.join(report, 'index.html'), path)
    raw = json.loads((copy / 'raw.json').read_text())
    run = next(r for r in raw['runs'] if r['percent'] == 100)
    run['server_end']['cpu_us'] *= 2
    (copy / 'raw.json').write_text(json.dumps(raw))
    assert 'not what raw.json says' in plan('verify', str(copy), code=1)


def test_a_load_that_did_not_hold_is_no_headline(report, tmp_path):
    copy = shutil.copytree(report, tmp_path / 'copy')
    raw = json.loads((copy / 'raw.json').read_text())
    raw['search']['1'].update(held=False, accounts=1e12)
    raw['search']['2']['held'] = True
    f = figures.derive(raw, {})
    assert f.of('best.shards') == 2 and f.of('best.accounts') == raw['search']['2']['accounts']
    raw['search']['2']['held'] = False
    (copy / 'raw.json').write_text(json.dumps(raw))
    assert 'NOT to be relied on' in plan('report', str(copy)) and 'Not to be relied on' in page_of(str(copy))


def test_another_plan_from_the_same_data(report, tmp_path):
    copy = str(shutil.copytree(report, tmp_path / 'copy'))
    plan('report', copy, '--accounts', '100000000', '--spare', '3', '--headroom', '50')
    f = {k: v['value'] for k, v in json.loads(plan('figures', copy)).items()}
    assert f['plan.nodes'] == f['plan.needed'] + 3 and f['plan.load_failed'] <= 0.5 and f['plan.accounts'] == 1e8
    plan('verify', copy)


def test_two_reports_are_compared(report, tmp_path):
    copy = shutil.copytree(report, tmp_path / 'other')
    raw = json.loads((copy / 'raw.json').read_text())
    for run in raw['runs']:  # the same with every CPU figure half as large again
        run['server_end']['cpu_us'] = run['server_start']['cpu_us'] + 1.5 * (run['server_end']['cpu_us'] - run['server_start']['cpu_us'])
    (copy / 'raw.json').write_text(json.dumps(raw))
    plan('report', str(copy))
    out = tmp_path / 'compare.html'
    said = plan('compare', report, str(copy), '--out', str(out))
    assert re.search(r'CPU of one: poll .*\+50 % +worse', said), said
    assert re.search(r'accounts held .*\+0 % *$', said, re.M), said
    shown = Shown(out.read_text())
    sides = [{k: v for k, v in json.loads(plan('figures', str(where))).items()} for where in (report, copy)]
    for a, text in shown.data:
        if a['data-side'] in 'ab':
            assert sides['ab'.index(a['data-side'])][a['data-key']]['text'] == text
        else:
            x, y = (side[a['data-key']]['value'] for side in sides)
            assert abs(float(a['value']) - (y / x - 1)) < 1e-9
    assert not [t for t in shown.text if re.search(r'\d', t)]


def test_the_example_follows_from_its_data():
    """bench/reports/modern: remake the page with `python3 bench/plan report` when the page has changed."""
    example = os.path.join(TOP, 'bench', 'reports', 'modern')
    plan('verify', example)
    assert os.path.getsize(os.path.join(example, 'index.html')) < 1_000_000


# ---- in a browser ----

def chromium(*words, folder):
    program = shutil.which('chromium')
    if not program:
        pytest.skip('chromium is not installed')
    return subprocess.run([program, '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
                           '--disable-component-update', '--disable-sync', f'--user-data-dir={folder}', '--hide-scrollbars', *words],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False)


def corner(png):
    """The first pixel of an 8-bit PNG."""
    at, packed = 8, b''
    while at < len(png):
        size, kind = struct.unpack('>I4s', png[at:at + 8])
        if kind == b'IHDR':
            assert png[at + 16] == 8
        if kind == b'IDAT':
            packed += png[at + 8:at + 8 + size]
        at += 12 + size
    return tuple(zlib.decompressobj().decompress(packed, 16)[1:4])


@pytest.mark.parametrize('scheme, dark', [(0, True), (1, False)])
def test_a_browser_shows_it(report, tmp_path, scheme, dark):
    """Light and dark, without a word on the console, with all marks in view."""
    picture = tmp_path / 'page.png'
    done = chromium('--enable-logging=stderr', f'--blink-settings=preferredColorScheme={scheme}', '--window-size=1120,900', f'--screenshot={picture}',
                    f'file://{report}/index.html', folder=tmp_path / 'profile')
    assert picture.exists(), done.stderr[-2000:]
    assert 'CONSOLE' not in done.stderr, done.stderr
    assert (sum(corner(picture.read_bytes())) < 200) == dark


def test_the_browser_finds_no_fault_in_it(report, tmp_path):
    """What the parser made of it is what was written: nothing lies open, nothing was moved."""
    done = chromium('--dump-dom', f'file://{report}/index.html', folder=tmp_path / 'profile')
    before, after = Shown(page_of(report)), Shown(done.stdout)
    assert [d[1] for d in after.data] == [d[1] for d in before.data] and len(after.marks) == len(before.marks)
    assert ''.join(after.text).split() == ''.join(before.text).split()


# ---- recording and replaying ----

@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """A server's life of a second and a half, and its shape: (folder, log, figures of the life)."""
    folder = tmp_path_factory.mktemp('recorded')
    with Penfold(folder, shards=1, accounts=[f'user{n}' for n in range(1, 61)]) as p:
        lines = [f'--tag deliver --scenario lmtp --address 127.0.0.1:{p.lmtp_port} --rate 40 --size 2000:3,30000:1 --recipients 1:3,3:1 --first 1 --last 30',
                 f'--tag poll --scenario pop3-check --address 127.0.0.1:{p.pop3_port} --rate 60 --first 41 --last 60',
                 f'--tag take --scenario pop3-fetch --address 127.0.0.1:{p.pop3_port} --rate 30 --first 1 --last 30',
                 f'--tag look --scenario imap-check --address 127.0.0.1:{p.imap_port} --rate 20 --first 31 --last 40']
        run = mix(p, str(folder), lines, '--seconds', '1.5')
    assert not sum(s['errors'] for s in run['streams'])
    out = str(folder / 'shape')
    plan('record', '--log', p.log_path, '--out', out)
    return out, p.log_path, {s['tag']: s for s in run['streams']}


def test_a_shape_has_what_happened_and_nobody_in_it(recorded):
    out, log, life = recorded
    p = workload.load(out)
    times = {s.name: [float(t) for t in open(os.path.join(out, s.arrivals))] for s in p.streams}
    assert len(times['deliver']) == life['deliver']['offered'] and len(times['look']) == life['look']['offered']
    # a session that found an empty mailbox looks like a poll to the log
    assert len(times['check']) + len(times.get('fetch', [])) == life['poll']['offered'] + life['take']['offered']
    assert all(t == sorted(t) and t[0] >= 0 and t[-1] < 60 for t in times.values())
    text = ''.join(open(os.path.join(out, name)).read() for name in os.listdir(out))
    for secret in ('user1', 'demo', '127.0.0.1', 'bench.example', 'session'):
        assert secret in open(log).read(), secret
    assert not re.search(r'user\d|demo\.|127\.|@|\d{4}-\d\d-\d\d', text)


def test_a_shape_is_replayed_at_its_times(recorded, tmp_path):
    out, _, _ = recorded
    said = plan('replay', out, '--build', BUILD, '--work', str(tmp_path), '--port', str(house.free_ports(1)[0] - 100))
    for name in ('deliver', 'look', 'check'):
        assert re.search(rf'^{name} +(\d+) +\1 ', said, re.M), said


def test_both_forms_of_the_log_are_read():
    shape = record.Shape()
    keys = 'time=2026-01-01T00:00:%02d.000Z level=info event=%s session=7 peer=192.0.2.1:9 tenant=t user="a b@x" %s\n'
    for line in (keys % (1, 'pop3.login', 'tls=no messages=12 bytes=99'), keys % (2, 'pop3.end', 'how=quit retrieved=2 retrieved_bytes=9 deleted=0'),
                 json.dumps({'time': '2026-01-01T00:00:03.000Z', 'level': 'info', 'event': 'imap.login', 'session': 8, 'user': 'c', 'tls': 'TLSv1.3'}) + '\n',
                 json.dumps({'time': '2026-01-01T00:02:03.000Z', 'level': 'info', 'event': 'imap.end', 'session': 8, 'user': 'c', 'sent_bytes': 5}) + '\n',
                 'something else\n', '{broken\n'):
        e = record.event(line)
        if e:
            shape.take(e)
    shape.finish()
    text, times = record.profile(shape, 1000)
    assert set(times) == {'keep', 'reconnect'} and shape.waited_s == 120 and shape.messages == [10] and shape.tls['imap'] == [0, 1]
    p = workload.Profile(text, 'recorded')
    assert p.stream('keep').options == ['--keep', '--newest', '2'] and p.stream('reconnect').tls == 'resumed' and p.idle_per_account > 0
