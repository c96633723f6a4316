# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes: the manifests rendered, held against the API's published types (as python3-kubernetes has them) and against what we
state here of them: Pod Security restricted, names that must meet, probes and hooks that a real server answers. No cluster is run."""
import glob
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import penfold
import pytest
from penfold import Penfold, free_ports, settled

yaml = pytest.importorskip('yaml', reason='python3-yaml is not installed')
import kustomize  # noqa: E402

try:
    from kubernetes import client as api
except ImportError:
    api = None

TOP = os.path.join(penfold.TOP, 'deploy', 'kubernetes')
PROMETHEUS = os.path.join(penfold.TOP, 'deploy', 'prometheus')
OVERLAYS = ('single', 'home', 'any')
MODELS = {('apps/v1', 'StatefulSet'): 'V1StatefulSet', ('v1', 'Service'): 'V1Service', ('v1', 'ConfigMap'): 'V1ConfigMap',
          ('v1', 'Namespace'): 'V1Namespace', ('v1', 'ServiceAccount'): 'V1ServiceAccount', ('v1', 'PersistentVolume'): 'V1PersistentVolume',
          ('v1', 'PersistentVolumeClaim'): 'V1PersistentVolumeClaim', ('storage.k8s.io/v1', 'StorageClass'): 'V1StorageClass',
          ('policy/v1', 'PodDisruptionBudget'): 'V1PodDisruptionBudget', ('networking.k8s.io/v1', 'NetworkPolicy'): 'V1NetworkPolicy'}
OPERATOR = {('monitoring.coreos.com/v1', 'ServiceMonitor'), ('monitoring.coreos.com/v1', 'PrometheusRule')}  # types of another project


@pytest.fixture(scope='module', params=OVERLAYS)
def made(request):
    return request.param, kustomize.render(os.path.join(TOP, 'overlays', request.param))


def one(made, kind, name='penfold'):
    found, = [m for m in made if m['kind'] == kind and m['metadata']['name'] == name]
    return found


def pod_of(made):
    return one(made, 'StatefulSet')['spec']['template']['spec']


def container_of(made):
    c, = pod_of(made)['containers']
    return c


# ---- rendering ----

def normal(documents):
    """In one order, and without the hash that kustomize gives a generated name."""
    text = re.sub(r'penfold-config-[0-9a-z]{10}\b', 'penfold-config', yaml.safe_dump_all(documents, sort_keys=True))
    return sorted(yaml.safe_load_all(text), key=lambda d: (d['kind'], d['metadata']['name']))


def has_kustomize():
    """kubectl 1.20 has one that knows no components."""
    if not shutil.which('kubectl'):
        return False
    r = subprocess.run(['kubectl', 'version', '--client'], capture_output=True, text=True, timeout=60)
    m = re.search(r'Kustomize Version: v(\d+)', r.stdout + r.stderr)
    return bool(m) and int(m[1]) >= 4


@pytest.mark.skipif(not has_kustomize(), reason='no kubectl with kustomize 4 or newer')
def test_as_kustomize_renders_it(made):
    overlay, ours = made
    r = subprocess.run(['kubectl', 'kustomize', os.path.join(TOP, 'overlays', overlay)], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    assert normal(ours) == normal(yaml.safe_load_all(r.stdout))


# ---- types ----

def check(where, value, kind):
    """Complaints about a value that should be of one of the API's types."""
    m = re.match(r'list\[(.*)\]$', kind)
    if m:
        if not isinstance(value, list):
            return [f'{where}: not a list']
        return [c for i, v in enumerate(value) for c in check(f'{where}[{i}]', v, m[1])]
    m = re.match(r'dict\(str, (.*)\)$', kind)
    if m:
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            return [f'{where}: not a mapping of strings']
        return [c for k, v in value.items() for c in check(f'{where}.{k}', v, m[1])]
    if kind in ('object', 'datetime'):
        return []
    plain = {'str': str, 'int': int, 'bool': bool, 'float': (int, float)}.get(kind)
    if plain:
        good = isinstance(value, plain) and (kind == 'bool' or not isinstance(value, bool))
        return [] if good else [f'{where}: {value!r} is no {kind}']
    return check_model(where, value, getattr(api, kind))


def check_model(where, value, model):
    if not isinstance(value, dict):
        return [f'{where}: not a mapping']
    names = {wire: name for name, wire in model.attribute_map.items()}
    complaints = [f'{where}.{k}: no such field' for k in value if k not in names]
    try:
        model(**{names[k]: v for k, v in value.items() if k in names})  # what is required, and what may be chosen from
    except ValueError as e:
        complaints.append(f'{where}: {e}')
    for k, v in value.items():
        if k in names:
            complaints += check(f'{where}.{k}', v, model.openapi_types[names[k]])
    return complaints


@pytest.mark.skipif(not api, reason='python3-kubernetes is not installed')
def test_published_types(made):
    complaints = []
    for m in made[1]:
        kind = (m['apiVersion'], m['kind'])
        if kind not in OPERATOR:
            complaints += check_model(m['kind'], m, getattr(api, MODELS[kind]))
    assert not complaints, '\n'.join(complaints)


@pytest.mark.skipif(not api, reason='python3-kubernetes is not installed')
@pytest.mark.parametrize('spoil, complaint', [
    (lambda s: s['spec'].pop('serviceName'), 'service_name'),
    (lambda s: s['spec'].update(replica=3), 'replica: no such field'),
    (lambda s: s['spec'].update(replicas='3'), "'3' is no int"),
    (lambda s: s['spec']['template']['spec']['containers'][0].pop('name'), 'name'),
    (lambda s: s['spec']['template']['spec'].update(volumes={}), 'not a list'),
    (lambda s: s['metadata']['labels'].update(x=1), '1 is no str')])
def test_the_check_of_types_finds_mistakes(spoil, complaint):
    s = one(kustomize.render(os.path.join(TOP, 'overlays', 'home')), 'StatefulSet')
    spoil(s)
    assert any(complaint in c for c in check_model('StatefulSet', s, api.V1StatefulSet))


NPM = os.environ.get('KUBERNETES_MODELS')


def complaints_of(manifests):
    r = subprocess.run(['node', os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kubernetes_types.mjs'), NPM], input=json.dumps(manifests),
                       capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    return r.stdout.splitlines()


@pytest.mark.skipif(not NPM, reason='make kubernetes-test brings the newest types from npm and runs this')
def test_newest_published_types(made):
    """The operator's types, too; and a mistake in each is found."""
    assert complaints_of(made[1]) == []
    stateful, monitor = one(made[1], 'StatefulSet'), one(made[1], 'ServiceMonitor')
    wrong = json.loads(json.dumps([stateful, monitor]))
    wrong[0]['spec']['replicas'] = 'three'
    wrong[1]['spec']['endpoints'] = {}
    assert len(complaints_of(wrong)) == 2


# ---- what we state of them ----

def restricted(pod):
    """Pod Security Standards, restricted: what breaks it."""
    allowed = {'configMap', 'csi', 'downwardAPI', 'emptyDir', 'ephemeral', 'persistentVolumeClaim', 'projected', 'secret'}
    p = pod.get('securityContext', {})
    bad = [k for k in ('hostNetwork', 'hostPID', 'hostIPC') if pod.get(k)]
    bad += [f'volume {v["name"]}' for v in pod.get('volumes', []) if not set(v) - {'name'} <= allowed]
    for c in pod['containers'] + pod.get('initContainers', []):
        s = c.get('securityContext', {})
        bad += ['privileged'] if s.get('privileged') else []
        bad += ['privilege escalation'] if s.get('allowPrivilegeEscalation') is not False else []
        bad += ['capabilities'] if s.get('capabilities', {}).get('drop') != ['ALL'] or set(s['capabilities'].get('add', [])) - {'NET_BIND_SERVICE'} else []
        bad += ['may be root'] if s.get('runAsNonRoot', p.get('runAsNonRoot')) is not True or s.get('runAsUser', p.get('runAsUser')) == 0 else []
        bad += ['seccomp'] if s.get('seccompProfile', p.get('seccompProfile', {})).get('type') not in ('RuntimeDefault', 'Localhost') else []
        bad += ['host port'] if any('hostPort' in port for port in c.get('ports', [])) else []
    return bad


def test_pod_security_restricted(made):
    assert restricted(pod_of(made[1])) == []
    assert one(made[1], 'Namespace')['metadata']['labels']['pod-security.kubernetes.io/enforce'] == 'restricted'
    assert container_of(made[1])['securityContext']['readOnlyRootFilesystem'] is True
    assert pod_of(made[1])['automountServiceAccountToken'] is False
    worse = kustomize.render(os.path.join(TOP, 'overlays', made[0]))
    container_of(worse)['securityContext']['capabilities'] = {}
    pod_of(worse)['hostNetwork'] = True
    assert restricted(pod_of(worse)) == ['hostNetwork', 'capabilities']


def test_the_image_and_the_profile_are_those_that_are_built(made):
    pod = pod_of(made[1])
    with open(os.path.join(penfold.TOP, 'deploy', 'image', 'build.sh')) as f:
        assert f"--user {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in f.read()
    profile = pod['securityContext']['seccompProfile']
    assert profile['type'] == 'Localhost' and os.path.exists(os.path.join(penfold.TOP, 'deploy', 'seccomp', profile['localhostProfile']))


def test_names_meet(made):
    """Selectors, ports, volumes, claims, service accounts: whatever names another thing names one that is there."""
    overlay, all_ = made
    stateful, pod, c = one(all_, 'StatefulSet'), pod_of(all_), container_of(all_)
    labels = stateful['spec']['template']['metadata']['labels']
    pod_labels = [{**labels, 'statefulset.kubernetes.io/pod-name': f'penfold-{i}'} for i in range(stateful['spec']['replicas'])]
    ports = {p['name'] for p in c['ports']}
    assert stateful['spec']['selector']['matchLabels'].items() <= labels.items()
    assert one(all_, 'Service', stateful['spec']['serviceName'])['spec']['clusterIP'] == 'None'
    one(all_, 'ServiceAccount', pod['serviceAccountName'])
    for s in (m for m in all_ if m['kind'] == 'Service'):
        assert any(s['spec']['selector'].items() <= l.items() for l in pod_labels), s['metadata']['name']
        assert {p['targetPort'] for p in s['spec']['ports']} <= ports
    selectors = [one(all_, 'PodDisruptionBudget')['spec']['selector'], one(all_, 'NetworkPolicy')['spec']['podSelector'],
                 *(t['labelSelector'] for t in pod['topologySpreadConstraints'])]
    assert all(s['matchLabels'].items() <= labels.items() for s in selectors)
    for rule in one(all_, 'NetworkPolicy')['spec']['ingress']:
        assert {p['port'] for p in rule['ports']} <= ports
    assert {t['topologyKey'] for t in pod['topologySpreadConstraints']} == {'topology.kubernetes.io/zone', 'kubernetes.io/hostname'}
    claims = {t['metadata']['name'] for t in stateful['spec'].get('volumeClaimTemplates', [])}
    volumes = {v['name']: v for v in pod['volumes']}
    assert not claims & set(volumes)
    assert {m['name'] for m in c['volumeMounts']} == claims | set(volumes)
    assert ('data' in claims) == (overlay != 'any')
    if overlay == 'any':
        claim = one(all_, 'PersistentVolumeClaim', volumes['data']['persistentVolumeClaim']['claimName'])
        assert claim['spec']['accessModes'] == ['ReadWriteMany']
    one(all_, 'ConfigMap', volumes['config']['configMap']['name'])
    for probe in ('startupProbe', 'livenessProbe', 'readinessProbe'):
        assert c[probe]['httpGet']['port'] in ports
    monitor = one(all_, 'ServiceMonitor')['spec']
    nodes = one(all_, 'Service', 'penfold-nodes')
    assert monitor['selector']['matchLabels'].items() <= nodes['metadata']['labels'].items()
    assert {e['port'] for e in monitor['endpoints']} <= {p['name'] for p in nodes['spec']['ports']}
    assert nodes['metadata']['labels'][monitor['jobLabel']] == 'penfold'


def test_the_hook_fits_into_the_grace(made):
    """preStop: grace and spread; then SIGTERM has time for the last words and the last commits."""
    command = container_of(made[1])['lifecycle']['preStop']['exec']['command']
    seconds = [int(command[command.index(o) + 1]) for o in ('--grace', '--over')]
    assert sum(seconds) + 30 <= pod_of(made[1])['terminationGracePeriodSeconds']
    r = container_of(made[1])['readinessProbe']
    assert r['periodSeconds'] * r['failureThreshold'] + 5 <= seconds[0]  # the balancers hear of it within the grace


@pytest.fixture
def configured(made, tmp_path):
    """The overlay's configuration with what a pod would have: (path, environment, its mapping)."""
    text = one(made[1], 'ConfigMap', 'penfold-config')['data']['penfold.yaml']
    for name in ('tls', 'redis', 'peer'):
        (tmp_path / name).mkdir()
        text = text.replace(f'/etc/penfold-{name}/', f'{tmp_path}/{name}/')
    (tmp_path / 'redis' / 'password').write_text('a password\n')
    path = tmp_path / 'penfold.yaml'
    path.write_text(text)
    return str(path), {'POD_IP': '10.1.2.3', **{f'PENFOLD_{i}_SERVICE_HOST': f'10.96.0.{i + 1}' for i in range(3)}}, yaml.safe_load(text)


def test_the_configuration_is_good(made, configured):
    """The program takes it, in each of the pods; its ports are the container's."""
    path, env, config = configured
    stateful, c = one(made[1], 'StatefulSet'), container_of(made[1])
    for i in range(stateful['spec']['replicas']):
        named = os.path.join(os.path.dirname(path), f'{i}.yaml')
        with open(path) as f, open(named, 'w') as out:
            out.write(f.read() + f'node: penfold-{i}\n')  # in a pod: its host name
        r = subprocess.run([penfold.BINARY, '--config', named, 'config', 'check'], capture_output=True, text=True, timeout=30, env={**os.environ, **env})
        assert r.returncode == 0, r.stdout + r.stderr
    declared = {p['name']: p['containerPort'] for p in c['ports']}
    listening = {(l['protocol'] + ('s' if l.get('tls') == 'implicit' else '')): int(l['address'].rsplit(':', 1)[1]) for l in config['listeners']}
    listening['http'] = int(config['http']['address'].rsplit(':', 1)[1])
    if 'peer' in config:
        listening['peer'] = int(config['peer']['address'].rsplit(':', 1)[1])
    assert listening.items() <= declared.items()
    mounts = [m['mountPath'] for m in c['volumeMounts']]
    assert config['data'] in mounts
    wanted = set(re.findall(r'\$\{([A-Z_0-9]+)\}', one(made[1], 'ConfigMap', 'penfold-config')['data']['penfold.yaml']))
    given = {e['name'] for e in c['env']}
    if pod_of(made[1])['enableServiceLinks']:  # NAME_SERVICE_HOST of each Service of the namespace
        given |= {s['metadata']['name'].upper().replace('-', '_') + '_SERVICE_HOST' for s in made[1] if s['kind'] == 'Service'}
    assert wanted <= given
    if 'nodes' in config:
        assert [n['name'] for n in config['nodes']] == [f'penfold-{i}' for i in range(stateful['spec']['replicas'])]


# ---- against a real server ----

@pytest.fixture(scope='module')
def server(tmp_path_factory):
    http, = free_ports(1)
    with Penfold(tmp_path_factory.mktemp('server'), extra=f'http: {{ address: "127.0.0.1:{http}" }}\n') as p:
        p.http_port = http
        p.deliver(b'Subject: x\r\n\r\nx\r\n', 'ann')
        yield p


def get(p, path):
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{p.http_port}{path}', timeout=20) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, ''


def test_probes_and_hook_are_answered(made, server):
    c = container_of(made[1])
    for probe in ('startupProbe', 'livenessProbe', 'readinessProbe'):
        path = c[probe]['httpGet']['path']
        settled(lambda: is_200(server, path), 20)
    assert get(server, '/nothing')[0] == 404
    command = [{'15': '0', '600': '0'}.get(w, w) for w in c['lifecycle']['preStop']['exec']['command']]
    assert command[0] == '/usr/bin/penfold'
    session = server.raw()
    assert session.recv(3) == b'+OK'
    server.run(*command[1:])
    assert get(server, c['readinessProbe']['httpGet']['path'])[0] == 503
    assert get(server, c['livenessProbe']['httpGet']['path'])[0] == 200
    session.close()
    server.run('undrain')


def is_200(server, path):
    assert get(server, path)[0] == 200


# ---- alerts ----

def rules():
    with open(os.path.join(PROMETHEUS, 'alerts.yaml')) as f:
        return yaml.safe_load(f)


@pytest.mark.skipif(not shutil.which('promtool'), reason='promtool (package prometheus) is not installed')
def test_alerts():
    for argv in (['promtool', 'check', 'rules', 'alerts.yaml'], ['promtool', 'test', 'rules', 'alerts_test.yaml']):
        r = subprocess.run(argv, cwd=PROMETHEUS, capture_output=True, text=True, timeout=120)
        assert r.returncode == 0 and 'SUCCESS' in r.stdout + r.stderr, r.stdout + r.stderr


def test_each_alert_is_tested_both_ways():
    with open(os.path.join(PROMETHEUS, 'alerts_test.yaml')) as f:
        tests = yaml.safe_load(f)['tests']
    seen = {(t['alert_rule_test'][0]['alertname'], bool(t['alert_rule_test'][0]['exp_alerts'])) for t in tests}
    names = {r['alert'] for g in rules()['groups'] for r in g['rules']}
    assert seen == {(n, fires) for n in names for fires in (True, False)}


def test_the_operators_rules_are_the_same(made):
    assert one(made[1], 'PrometheusRule')['spec'] == rules()


def test_alerts_know_figures_that_there_are(server):
    names = set(re.findall(r'(?m)^(penfold_\w+)', get(server, '/metrics')[1]))
    for g in rules()['groups']:
        for r in g['rules']:
            used = set(re.findall(r'\bpenfold_\w+', r['expr']))
            assert used <= names, (r['alert'], used - names)


def test_no_key_twice():
    """YAML lets the last one win; a reader would not see it."""
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader, node, deep=False):
        keys = [k.value for k, _ in node.value]
        assert len(keys) == len(set(keys)), (node.start_mark, keys)
        return yaml.SafeLoader.construct_mapping(loader, node, deep)
    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in glob.glob(os.path.join(TOP, '**', '*.yaml'), recursive=True) + glob.glob(os.path.join(PROMETHEUS, '*.yaml')):
        with open(path) as f:
            list(yaml.load_all(f, Strict))
