import type { Target } from './targets.js';

export const configMap = (name: string, data: Record<string, unknown> = { a: 'b' }, more: object = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data,
  ...more,
});

export const ECHO = 'def handle(payload: str) -> str:\n    return payload\n';

export const codeOf = (name: string, source: string) => configMap(`code-${name}`, { 'handler.py': source });

const LABELS = (name: string) => ({ app: 'faas-worker', func: name });

/** A Deployment as the provider's are, with the code of `code-<name>`. */
export function deployment(target: Target, name: string, container: object = {}, spec: object = {}, pod: object = {}) {
  const probe = { httpGet: { path: '/health', port: 'http' }, periodSeconds: 1 };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, labels: LABELS(name) },
    spec: {
      replicas: 1,
      selector: { matchLabels: LABELS(name) },
      template: {
        metadata: { labels: LABELS(name) },
        spec: {
          automountServiceAccountToken: false,
          terminationGracePeriodSeconds: 5,
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          volumes: [
            { name: 'code', configMap: { name: `code-${name}` } },
            { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
          ],
          containers: [
            {
              name: 'worker',
              image: target.image,
              imagePullPolicy: 'IfNotPresent',
              env: [
                { name: 'HANDLER_FUNCTION', value: 'function.handler.handle' },
                { name: 'HOME', value: '/tmp' },
              ],
              ports: [{ name: 'http', containerPort: 8000 }],
              resources: { requests: { cpu: '10m', memory: '64Mi' }, limits: { cpu: '500m', memory: '256Mi' } },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ['ALL'] },
              },
              startupProbe: { ...probe, failureThreshold: 30 },
              readinessProbe: probe,
              terminationMessagePolicy: 'FallbackToLogsOnError',
              volumeMounts: [
                { name: 'code', mountPath: '/app/function', readOnly: true },
                { name: 'tmp', mountPath: '/tmp' },
              ],
              ...container,
            },
          ],
          ...pod,
        },
      },
      ...spec,
    },
  };
}

export const service = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: `service-${name}`, labels: LABELS(name) },
  spec: { selector: LABELS(name), ports: [{ name: 'http', port: 80, targetPort: 8000 }] },
});

export const autoscaler = (name: string, minReplicas: number, maxReplicas: number) => ({
  apiVersion: 'autoscaling/v2',
  kind: 'HorizontalPodAutoscaler',
  metadata: { name: `hpa-${name}` },
  spec: {
    minReplicas,
    maxReplicas,
    scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name },
    metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 70 } } }],
  },
});
