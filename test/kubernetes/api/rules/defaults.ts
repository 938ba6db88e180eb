import type { KubeObject } from '../store/objects.js';
import { byDefault, type Fields, fields, list, text } from './fields.js';

/** Fills in, in place, what the API server fills in before it stores an object. */
export function setDefaults(object: KubeObject): void {
  DEFAULTS[object.kind]?.(fields(object.spec), object);
}

const DEFAULTS: Readonly<Record<string, (spec: Fields, object: KubeObject) => void>> = {
  Namespace: (spec, object) => {
    object.spec = { finalizers: ['kubernetes'], ...spec };
    byDefault(object, { status: { phase: 'Active' } });
    object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name };
  },
  Secret: (_spec, object) => byDefault(object, { type: 'Opaque' }),
  Deployment: (spec) => {
    byDefault(spec, { replicas: 1, strategy: {}, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 });
    const strategy = fields(spec['strategy']);
    byDefault(strategy, { type: 'RollingUpdate' });
    if (strategy['type'] === 'RollingUpdate') {
      byDefault(strategy, { rollingUpdate: {} });
      byDefault(fields(strategy['rollingUpdate']), { maxUnavailable: '25%', maxSurge: '25%' });
    }
    podSpecDefaults(fields(fields(spec['template'])['spec']));
  },
  ReplicaSet: (spec) => {
    byDefault(spec, { replicas: 1 });
    podSpecDefaults(fields(fields(spec['template'])['spec']));
  },
  Pod: (spec, object) => {
    podSpecDefaults(spec);
    byDefault(spec, {
      serviceAccountName: 'default',
      serviceAccount: spec['serviceAccountName'] ?? 'default',
      enableServiceLinks: true,
      priority: 0,
      preemptionPolicy: 'PreemptLowerPriority',
      tolerations: [
        { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
        { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
      ],
    });
    object.status = { phase: 'Pending', qosClass: qosClass(spec), ...fields(object.status) };
  },
  Service: (spec) => {
    byDefault(spec, {
      type: 'ClusterIP',
      sessionAffinity: 'None',
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
    });
    for (const port of list(spec['ports'])) {
      byDefault(port, { protocol: 'TCP', targetPort: port['port'] });
    }
  },
  HorizontalPodAutoscaler: (spec) => {
    byDefault(spec, { minReplicas: 1 });
    spec['metrics'] ??= [
      { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } },
    ];
    if (spec['behavior'] === undefined) return;
    const behavior = fields(spec['behavior']);
    byDefault(behavior, { scaleUp: {}, scaleDown: {} });
    const percent = { type: 'Percent', value: 100, periodSeconds: 15 };
    byDefault(fields(behavior['scaleUp']), {
      stabilizationWindowSeconds: 0,
      selectPolicy: 'Max',
      policies: [{ type: 'Pods', value: 4, periodSeconds: 15 }, percent],
    });
    byDefault(fields(behavior['scaleDown']), { selectPolicy: 'Max', policies: [percent] });
  },
  NetworkPolicy: (spec) => {
    const egress = spec['egress'] === undefined ? [] : ['Egress'];
    byDefault(spec, { podSelector: {}, policyTypes: ['Ingress', ...egress] });
    for (const rule of [...list(spec['ingress']), ...list(spec['egress'])]) {
      for (const port of list(rule['ports'])) byDefault(port, { protocol: 'TCP' });
    }
  },
  EndpointSlice: (_spec, object) => {
    for (const port of list(object['ports'])) byDefault(port, { name: '', protocol: 'TCP' });
  },
};

function podSpecDefaults(spec: Fields): void {
  byDefault(spec, {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    schedulerName: 'default-scheduler',
  });
  if (spec['serviceAccountName'] !== undefined) byDefault(spec, { serviceAccount: spec['serviceAccountName'] });
  for (const container of [...list(spec['initContainers']), ...list(spec['containers'])]) containerDefaults(container);
  for (const volume of list(spec['volumes'])) volumeDefaults(volume);
}

function containerDefaults(container: Fields): void {
  const image = text(container['image']);
  const isLatest = !/[:@]/.test(image.split('/').at(-1) ?? '') || image.endsWith(':latest');
  byDefault(container, {
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    imagePullPolicy: isLatest ? 'Always' : 'IfNotPresent',
    resources: {},
  });
  const resources = fields(container['resources']);
  if (resources['limits'] !== undefined) {
    resources['requests'] = { ...fields(resources['limits']), ...fields(resources['requests']) };
  }
  for (const port of list(container['ports'])) byDefault(port, { protocol: 'TCP' });
  for (const name of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
    if (container[name] !== undefined) probeDefaults(fields(container[name]));
  }
  for (const variable of list(container['env'])) {
    const reference = fields(variable['valueFrom'])['fieldRef'];
    if (reference !== undefined) byDefault(fields(reference), { apiVersion: 'v1' });
  }
}

function probeDefaults(probe: Fields): void {
  byDefault(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 });
  if (probe['httpGet'] !== undefined) byDefault(fields(probe['httpGet']), { path: '/', scheme: 'HTTP' });
}

function volumeDefaults(volume: Fields): void {
  for (const source of ['configMap', 'secret', 'projected', 'downwardAPI']) {
    if (volume[source] !== undefined) byDefault(fields(volume[source]), { defaultMode: 420 });
  }
}

function qosClass(spec: Fields): string {
  const all = list(spec['containers']).map((container) => fields(container['resources']));
  const some = all.some(({ requests, limits }) => requests !== undefined || limits !== undefined);
  const guaranteed = all.every((one) => {
    const [requests, limits] = [fields(one['requests']), fields(one['limits'])];
    return ['cpu', 'memory'].every((name) => limits[name] !== undefined && limits[name] === requests[name]);
  });
  return guaranteed ? 'Guaranteed' : some ? 'Burstable' : 'BestEffort';
}
