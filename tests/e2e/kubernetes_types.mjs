// SPDX-License-Identifier: Apache-2.0
// Holds manifests (JSON list on standard input) against the types of the npm packages kubernetes-models and
// @kubernetes-models/prometheus-operator, which are made from the published API; a line for each complaint. Argument: a folder that has them.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

for (const manifest of JSON.parse(readFileSync(0))) {
  const [group, version] = manifest.apiVersion.includes('/') ? manifest.apiVersion.split('/') : ['', manifest.apiVersion];
  const folder = group === 'monitoring.coreos.com' ? `@kubernetes-models/prometheus-operator/${group}` : `kubernetes-models${group && '/' + group}`;
  const file = `${process.argv[2]}/node_modules/${folder}/${version}/${manifest.kind}.js`;
  const type = (await import(pathToFileURL(file)))[manifest.kind];
  try {
    new type(manifest).validate();
  } catch (e) {
    console.log(`${manifest.kind} ${manifest.metadata.name}: ${e.message}`);
  }
}
