/** A kind of object, and where the API server keeps it. */
export interface Kind {
  readonly kind: string;
  readonly apiVersion: string;
  readonly plural: string;
}

export const CONFIG_MAP: Kind = { kind: 'ConfigMap', apiVersion: 'v1', plural: 'configmaps' };
/** Written and never read: the manager has no right to. */
export const SECRET: Kind = { kind: 'Secret', apiVersion: 'v1', plural: 'secrets' };
export const SERVICE: Kind = { kind: 'Service', apiVersion: 'v1', plural: 'services' };
export const POD: Kind = { kind: 'Pod', apiVersion: 'v1', plural: 'pods' };
export const EVENT: Kind = { kind: 'Event', apiVersion: 'v1', plural: 'events' };
export const DEPLOYMENT: Kind = { kind: 'Deployment', apiVersion: 'apps/v1', plural: 'deployments' };
export const AUTOSCALER: Kind = {
  kind: 'HorizontalPodAutoscaler',
  apiVersion: 'autoscaling/v2',
  plural: 'horizontalpodautoscalers',
};
export const ENDPOINT_SLICE: Kind = {
  kind: 'EndpointSlice',
  apiVersion: 'discovery.k8s.io/v1',
  plural: 'endpointslices',
};

/** What a function owns besides its pods and its Secrets, which its Deployment owns. */
export const OWNED: readonly Kind[] = [CONFIG_MAP, SERVICE, DEPLOYMENT, AUTOSCALER];

export function pathOf({ apiVersion, plural }: Kind, namespace: string, name?: string): string {
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const collection = `${group}/namespaces/${encodeURIComponent(namespace)}/${plural}`;
  return name === undefined ? collection : `${collection}/${encodeURIComponent(name)}`;
}
