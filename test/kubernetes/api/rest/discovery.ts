import { RESOURCES } from './resources.js';

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];

/** What `/api`, `/apis` and each group's version answer; undefined elsewhere. */
export function discovery(path: string, address: string): object | undefined {
  if (path === '/api') {
    const serverAddressByClientCIDRs = [{ clientCIDR: '0.0.0.0/0', serverAddress: address }];
    return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs };
  }
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups() };
  const group = groups().find(({ name }) => path === `/apis/${name}`);
  if (group !== undefined) return { kind: 'APIGroup', apiVersion: 'v1', ...group };
  return resourceList(path.replace(/^\/apis?\//, ''));
}

export const VERSION = {
  major: '1',
  minor: '36',
  gitVersion: 'v1.36.2',
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '2026-06-10T00:00:00Z',
  goVersion: 'go1.26.8',
  compiler: 'gc',
  platform: 'linux/amd64',
};

function groups() {
  const named = RESOURCES.filter(({ group }) => group !== '');
  const versions = new Map(
    named.map(({ group, apiVersion, version }) => [group, { groupVersion: apiVersion, version }]),
  );
  return [...versions].map(([name, version]) => ({ name, versions: [version], preferredVersion: version }));
}

function resourceList(groupVersion: string): object | undefined {
  const found = RESOURCES.filter(({ apiVersion }) => apiVersion === groupVersion);
  if (found.length === 0) return undefined;
  const resources = found.flatMap(({ plural, singular, kind, namespaced, subresources }) => [
    { name: plural, singularName: singular, namespaced, kind, verbs: VERBS },
    ...subresources.map((name) => ({
      name: `${plural}/${name}`,
      singularName: '',
      namespaced,
      kind: name === 'scale' ? 'Scale' : kind,
      ...(name === 'scale' ? { group: 'autoscaling', version: 'v1' } : {}),
      verbs: name === 'log' ? ['get'] : ['get', 'patch', 'update'],
    })),
  ]);
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources };
}
