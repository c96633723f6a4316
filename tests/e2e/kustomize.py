# SPDX-License-Identifier: Apache-2.0
"""What kustomize makes of a folder, for the part of it that deploy/kubernetes uses: resources, components, configMapGenerator (without the
hash in the name), patches by strategic merge, images, namespace. Where kubectl is installed, test_kubernetes.py holds the two against each other."""
import copy
import os

import yaml

CLUSTER_WIDE = {'Namespace', 'StorageClass', 'PersistentVolume'}
# lists that are merged entry by entry, and by which key; all others are replaced (the API's patchMergeKey)
MERGE_KEYS = {'containers': 'name', 'volumes': 'name', 'env': 'name', 'volumeMounts': 'mountPath', 'ports': 'containerPort'}
KNOWN = {'apiVersion', 'kind', 'namespace', 'resources', 'components', 'configMapGenerator', 'patches', 'images'}


def load_all(path):
    with open(path) as f:
        return [d for d in yaml.safe_load_all(f) if d]


def merge(onto, patch, key=None):
    if isinstance(onto, dict) and isinstance(patch, dict):
        for k, v in patch.items():
            onto[k] = merge(onto[k], v, k) if k in onto else copy.deepcopy(v)
        return onto
    if isinstance(onto, list) and isinstance(patch, list) and key in MERGE_KEYS:
        name = MERGE_KEYS[key]
        for entry in patch:
            same = [o for o in onto if o.get(name) == entry.get(name)]
            if same:
                merge(same[0], entry)
            else:
                onto.insert(0, copy.deepcopy(entry))
        return onto
    return copy.deepcopy(patch)


def images_of(spec):
    return spec.get('template', {}).get('spec', {}).get('containers', []) + spec.get('template', {}).get('spec', {}).get('initContainers', [])


def apply(folder, made):
    """The folder's kustomization on top of what is there."""
    k, = load_all(os.path.join(folder, 'kustomization.yaml'))
    assert set(k) <= KNOWN, f'{folder}: {set(k) - KNOWN}: not known here'
    for name in k.get('resources', []):
        path = os.path.join(folder, name)
        made += render(path) if os.path.isdir(path) else load_all(path)
    for generator in k.get('configMapGenerator', []):
        data = {}
        for name in generator['files']:
            with open(os.path.join(folder, name)) as f:
                data[name] = f.read()
        made.append({'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': generator['name']}, 'data': data})
    for name in k.get('components', []):
        apply(os.path.join(folder, name), made)
    for patch in k.get('patches', []):
        for p in load_all(os.path.join(folder, patch['path'])):
            target, = [m for m in made if (m['kind'], m['metadata']['name']) == (p['kind'], p['metadata']['name'])]
            merge(target, p)
    for image in k.get('images', []):
        for m in made:
            for c in images_of(m.get('spec', {})):
                if c['image'].split(':')[0] == image['name']:
                    c['image'] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    if 'namespace' in k:
        for m in made:
            if m['kind'] not in CLUSTER_WIDE:
                m['metadata']['namespace'] = k['namespace']
    return made


def render(folder):
    return apply(folder, [])
