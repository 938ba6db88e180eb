import type { Named } from './problems.js';

export interface Resource extends Named {
  readonly version: string;
  readonly apiVersion: string;
  /** Under which the store keeps it: `deployments.apps`. */
  readonly key: string;
  readonly singular: string;
  readonly namespaced: boolean;
  /** Counts changes of its spec. */
  readonly generations: boolean;
  readonly subresources: readonly string[];
}

const ALL: readonly Resource[] = [
  resource('', 'v1', 'Namespace', 'namespaces', { namespaced: false, subresources: ['status'] }),
  resource('', 'v1', 'ConfigMap', 'configmaps'),
  resource('', 'v1', 'Secret', 'secrets'),
  resource('', 'v1', 'ServiceAccount', 'serviceaccounts'),
  resource('', 'v1', 'Service', 'services', { subresources: ['status', 'proxy'] }),
  resource('', 'v1', 'ResourceQuota', 'resourcequotas', { subresources: ['status'] }),
  resource('', 'v1', 'Pod', 'pods', { generations: true, subresources: ['status', 'log', 'proxy', 'eviction'] }),
  resource('apps', 'v1', 'Deployment', 'deployments', { generations: true, subresources: ['status', 'scale'] }),
  resource('apps', 'v1', 'ReplicaSet', 'replicasets', { generations: true, subresources: ['status', 'scale'] }),
  resource('autoscaling', 'v2', 'HorizontalPodAutoscaler', 'horizontalpodautoscalers', { subresources: ['status'] }),
  resource('discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices', { generations: true }),
  resource('networking.k8s.io', 'v1', 'NetworkPolicy', 'networkpolicies', {
    generations: true,
    singular: 'networkpolicy',
  }),
];

export const RESOURCES: readonly Resource[] = ALL;

function resource(
  group: string,
  version: string,
  kind: string,
  plural: string,
  more: Partial<Pick<Resource, 'namespaced' | 'generations' | 'subresources' | 'singular'>> = {},
): Resource {
  return {
    group,
    version,
    kind,
    plural,
    apiVersion: group === '' ? version : `${group}/${version}`,
    key: group === '' ? plural : `${plural}.${group}`,
    singular: kind.toLowerCase(),
    namespaced: true,
    generations: false,
    subresources: [],
    ...more,
  };
}

export function findResource(group: string, version: string, plural: string): Resource | undefined {
  return ALL.find((one) => one.group === group && one.version === version && one.plural === plural);
}

export function resourceOf(apiVersion: string, kind: string): Resource | undefined {
  return ALL.find((one) => one.apiVersion === apiVersion && one.kind === kind);
}

/** One that is known to be there. */
export function theResource(plural: string): Resource {
  const found = ALL.find((one) => one.plural === plural);
  if (found === undefined) throw new Error(`There is no resource ${plural}.`);
  return found;
}

export const NAMESPACES = theResource('namespaces');
export const CONFIG_MAPS = theResource('configmaps');
export const SECRETS = theResource('secrets');
export const SERVICE_ACCOUNTS = theResource('serviceaccounts');
export const SERVICES = theResource('services');
export const QUOTAS = theResource('resourcequotas');
export const PODS = theResource('pods');
export const DEPLOYMENTS = theResource('deployments');
export const REPLICA_SETS = theResource('replicasets');
export const AUTOSCALERS = theResource('horizontalpodautoscalers');
export const ENDPOINT_SLICES = theResource('endpointslices');
