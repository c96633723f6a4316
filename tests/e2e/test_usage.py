# SPDX-License-Identifier: Apache-2.0
"""penfold stats --tenants: what each tenant used, kept over restarts."""
import poplib

import pytest

from penfold import Penfold, settled

EVE = 'eve@other.example'
MESSAGE = b'Subject: x\r\n\r\n' + b'0123456789\r\n' * 2000


def usage(p, tenant=None):
    got = p.json('stats', *(['--tenant', tenant] if tenant else ['--tenants']))
    assert got['fresh']
    return {t['tenant']: t for t in got['tenants']}


def test_counted_per_tenant_and_kept(tmp_path):
    with Penfold(tmp_path, accounts=('ann', 'bob')) as p:
        p.run('tenant', 'add', 'other')
        p.run('domain', 'add', 'other.example', '--tenant', 'other')
        p.add_account(EVE)
        assert usage(p)['demo']['logins'] == 0
        p.deliver(MESSAGE, 'ann', 'bob', EVE)
        with p.pop3('ann') as c:
            c.retr(1)
            with pytest.raises(poplib.error_proto, match='IN-USE'):
                p.pop3('ann')
        for name, password in ((EVE, 'wrong'), ('nobody@other.example', 'wrong'), ('nobody@nowhere.example', 'wrong')):
            with pytest.raises(poplib.error_proto):
                p.pop3(name, password)
        p.run('account', 'set', EVE, 'suspended=yes')

        def refused():
            with p.lmtp() as l:
                assert l.replies('s@remote.example', [EVE], MESSAGE)[EVE][0] == 550
        settled(refused, 10)

        def check():  # the client's QUIT is answered a moment before its session has ended
            all = usage(p)
            demo, other = all['demo'], all['other']
            assert (demo['sessions'], demo['logins'], demo['logins_failed'], demo['deliveries'], demo['refusals']) == (1, 2, 0, 2, 1)
            assert (other['sessions'], other['logins'], other['logins_failed']) == (0, 0, 2)
            assert other['refusals'] >= 1 and other['deliveries'] >= 1  # the suspension took a moment
            assert 2 * len(MESSAGE) < demo['bytes_in'] < 2 * len(MESSAGE) + 1000
            assert len(MESSAGE) < demo['bytes_out'] < len(MESSAGE) + 2000
            assert other['bytes_out'] == 0
            assert all[None]['logins_failed'] == 1 and all[None]['id'] == 0
            return all
        before = settled(check, 10)
        p.restart()
        assert usage(p) == before
        p.stop()
        assert usage(p) == before  # without a server
        p.start()
        p.pop3('bob').quit()
        p.restart()  # written at the stop
        assert usage(p, 'demo')['demo']['sessions'] == 2
        text = p.run('stats', '--tenants').stdout.decode()
        assert 'demo' in text and '(others)' in text
        assert p.run('stats', '--tenant', 'none', check=False).returncode not in (0, 2)
        assert 'usage.failed' not in p.log()
