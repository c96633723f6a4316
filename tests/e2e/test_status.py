# SPDX-License-Identifier: Apache-2.0
"""What people see of a running server: the status page (in a real browser), its JSON, times by verb, slow commands, figures by tenant, and the
dashboard, whose every name must be exported."""
import glob
import html
import html.parser
import json
import os
import re
import shutil
import struct
import subprocess
import urllib.request
import zlib

import pytest
from prometheus_client.openmetrics import parser

from penfold import Penfold, free_ports, settled

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.join(HERE, '..', '..', 'deploy')
CHROMIUM = shutil.which('chromium')
EVIL = 'a&lti&gtx'  # no brackets in names; but left as it is, a browser would read these as some


def served(tmp_path, extra=''):
    port, = free_ports(1)
    p = Penfold(tmp_path, accounts=('ann', 'bob'), extra=f'node: n1\nhttp: {{ address: "127.0.0.1:{port}" }}\n{extra}')
    p.http_port = port
    return p


def get(p, path):
    with urllib.request.urlopen(f'http://127.0.0.1:{p.http_port}{path}', timeout=10) as r:
        return r.headers, r.read().decode()


def families(p):
    return {f.name: f for f in parser.text_string_to_metric_families(get(p, '/metrics')[1])}


def samples(p, family, **labels):
    return [s for s in families(p)['penfold_' + family].samples if all(s.labels.get(k) == v for k, v in labels.items())]


def some_work(p):
    p.deliver(b'Subject: x\r\n\r\nhello\r\n', 'ann', 'bob')
    with p.pop3('ann') as pop:
        pop.retr(1)
        pop.uidl()


class Balance(html.parser.HTMLParser):
    """Counts what opens, and refuses scripts and whatever loads something."""
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert tag not in ('script', 'iframe', 'img', 'object'), tag
        for key, text in attrs:
            assert not key.startswith('on'), (key, text)
            assert key not in ('src',), (key, text)


def test_times_by_verb_and_figures_by_tenant(tmp_path):
    with served(tmp_path) as p:
        some_work(p)

        def times():
            count, = [s.value for s in samples(p, 'command_seconds', protocol='pop3', verb='RETR') if s.name.endswith('_count')]
            total, = [s.value for s in samples(p, 'command_seconds', protocol='pop3', verb='RETR') if s.name.endswith('_sum')]
            assert count == 1 and 0 < total < 60
            last, = [s.value for s in samples(p, 'command_seconds', protocol='lmtp', verb='deliver') if s.name.endswith('_count')]
            assert last == 1
        times()
        for verb in ('USER', 'PASS', 'UIDL', 'QUIT'):
            assert samples(p, 'command_seconds', protocol='pop3', verb=verb), verb
        assert not samples(p, 'command_seconds', protocol='imap')  # nobody has used it
        assert [s.value for s in samples(p, 'tenant_logins', tenant='demo')] == [1]
        assert [s.value for s in samples(p, 'tenant_deliveries', tenant='demo')] == [2]
        assert [s.value for s in samples(p, 'tenant_deliveries', tenant='other')] == [0]


def test_slow_commands_are_told_and_shown(tmp_path):
    with served(tmp_path, 'log: { slow_ms: 1 }\nauth: { cache_ttl_s: 1 }\n') as p:
        some_work(p)

        def told():
            lines = {verb: [x for x in p.log().splitlines() if 'event=net.slow' in x and f'verb={verb} ' in x] for verb in ('deliver', 'PASS')}
            assert len(lines['deliver']) == len(lines['PASS']) == 1, lines
            line, = lines['deliver']
            assert re.search(r'protocol=lmtp .*ms=\d+ .*store_ms=\d+ directory_ms=\d+ redis_ms=0 hash_ms=\d+', line), line
            assert 'user=ann@demo.example' in lines['PASS'][0] and int(re.search(r'hash_ms=(\d+)', lines['PASS'][0])[1]) >= 1, lines
        settled(told, 10)
        slow = json.loads(get(p, '/status.json')[1])['slow']
        passed, = [s for s in slow if s['verb'] == 'PASS']
        assert passed['waited_ms']['hash'] >= 1 and passed['peer'].startswith('127.0.0.1:')
        assert any('hash' in row for row in get(p, '/')[1].split('<tr>') if 'pop3 PASS' in row)
        # reloaded: nothing is slow any more
        with open(p.config) as f:
            text = f.read()
        with open(p.config, 'w') as f:
            f.write(text.replace('slow_ms: 1', 'slow_ms: 0'))
        os.kill(p.process.pid, 1)
        
        def reloaded():
            assert 'event=server.reloaded' in p.log()
        settled(reloaded, 10)
        before = len(json.loads(get(p, '/status.json')[1])['slow'])
        some_work(p)
        assert len(json.loads(get(p, '/status.json')[1])['slow']) == before


def test_page_and_json_agree(tmp_path):
    with served(tmp_path) as p:
        some_work(p)
        headers, text = get(p, '/status.json')
        j = json.loads(text)
        assert headers['Content-Type'] == 'application/json' and j['node'] == 'n1'
        assert j['totals']['logins'] == 1 and j['totals']['deliveries'] == 2 and len(j['shards']) == 2
        assert sum(s['commands'] for s in j['shards']) >= 8
        retr, = [c for c in j['commands'] if c['protocol'] == 'pop3' and c['verb'] == 'RETR']
        assert retr['count'] == 1 and retr['p50_ms'] <= retr['p99_ms']
        assert [t['deliveries'] for t in j['tenants'] if t['tenant'] == 'demo'] == [2]
        headers, page = get(p, '/')
        assert headers['Content-Type'].startswith('text/html') and "default-src 'none'" in headers['Content-Security-Policy']
        check = Balance()
        check.feed(page)
        assert check.tags.count('table') == 4 and 'pop3 RETR' in page and '>demo<' in page and 'refresh' in page
        assert get(p, '/status')[1].startswith('<!doctype html>')


# ---- in a browser ----

def browse(tmp_path, url, *args):
    """stdout and stderr of a browser that has nothing to remember."""
    profile = tmp_path / 'browser'
    r = subprocess.run([CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
                        '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', f'--user-data-dir={profile}',
                        '--enable-logging=stderr', '--v=0', *args, url], capture_output=True, timeout=120)
    assert r.returncode == 0, r.stderr.decode()[-2000:]
    return r.stdout.decode(), r.stderr.decode()


def background(png):
    """The red of a picture's first pixel, which is background. Whatever filter the first row has, it stands there as it is."""
    data = open(png, 'rb').read()
    assert data[:8] == b'\x89PNG\r\n\x1a\n'
    at, body = 8, b''
    while at < len(data):
        length, kind = struct.unpack('>I4s', data[at:at + 8])
        if kind == b'IHDR':
            _, _, depth, colour = struct.unpack('>IIBB', data[at + 8:at + 18])
        if kind == b'IDAT':
            body += data[at + 8:at + 8 + length]
        at += 12 + length
    step = {2: 3, 6: 4}[colour]
    raw = zlib.decompress(body)
    assert depth == 8 and step in (3, 4)
    return raw[1]


@pytest.mark.skipif(not CHROMIUM, reason='no chromium here')
def test_a_browser_shows_it_light_and_dark_without_a_complaint(tmp_path):
    with served(tmp_path, 'log: { slow_ms: 1 }\n') as p:
        some_work(p)
        url = f'http://127.0.0.1:{p.http_port}/'
        where = os.environ.get('PENFOLD_SCREENSHOTS') or str(tmp_path)
        dom, said = browse(tmp_path, url, '--dump-dom')
        assert 'CONSOLE' not in said, said
        assert re.search(r'<b id="open">\d', dom) and 'pop3' in dom and dom.count('<table') == 5
        for name, flags in (('light', []), ('dark', ['--force-dark-mode', '--blink-settings=preferredColorScheme=0'])):
            png = os.path.join(where, f'status-{name}.png')
            _, said = browse(tmp_path, url, f'--screenshot={png}', '--window-size=1240,1250', '--hide-scrollbars', *flags)
            assert 'CONSOLE' not in said, said
            assert (background(png) > 128) == (name == 'light'), name


@pytest.mark.skipif(not CHROMIUM, reason='no chromium here')
def test_what_strangers_chose_is_only_text(tmp_path):
    with served(tmp_path, 'log: { slow_ms: 1 }\n') as p:
        p.add_account(EVIL)
        with p.pop3(EVIL):
            pass
        slow, = [s for s in json.loads(get(p, '/status.json')[1])['slow'] if s['verb'] == 'PASS']
        assert slow['account'] == p.address(EVIL)
        page = get(p, '/')[1]
        Balance().feed(page)
        assert EVIL not in page and html.escape(EVIL) in page
        dom, said = browse(tmp_path, f'http://127.0.0.1:{p.http_port}/', '--dump-dom')
        assert 'CONSOLE' not in said and '<title>Penfold on n1</title>' in dom and html.escape(EVIL) in dom


# ---- the dashboard and the rules ----

def test_dashboards_and_rules_name_what_is_exported(tmp_path):
    texts = {}
    for path in glob.glob(os.path.join(DEPLOY, 'grafana', '*.json')):
        with open(path) as f:
            board = json.load(f)
        expressions = [t['expr'] for panel in board['panels'] for t in panel.get('targets', [])]
        assert len(expressions) > 15 and board['uid'] and board['title']
        ids = [panel['id'] for panel in board['panels']]
        assert len(ids) == len(set(ids))
        texts[path] = ' '.join(expressions)
    assert texts, 'no dashboard'
    for path in glob.glob(os.path.join(DEPLOY, '**', '*.y*ml'), recursive=True):
        with open(path) as f:
            text = f.read()
        if re.search(r'^\s*(- )?expr:', text, re.M):
            texts[path] = ' '.join(re.findall(r'(?:expr:\s*)(.*(?:\n\s{8,}.*)*)', text))
    with served(tmp_path) as p:
        some_work(p)
        known = set()
        for family in families(p).values():
            known |= {s.name for s in family.samples} | {family.name}
        for path, text in texts.items():
            for name in re.findall(r'\bpenfold_[a-z0-9_]+', text):
                assert name in known, (path, name)
