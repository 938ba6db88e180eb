import type { KubernetesObject } from '@kubernetes/client-node';
import type { Kind } from '#libs/orchestrator-kubernetes/kinds.js';

/** Somebody else's object, which any cluster takes. */
export function foreignObject({ apiVersion, kind }: Kind, name: string, namespace: string): KubernetesObject {
  const labels = { app: 'mine' };
  const template = {
    metadata: { labels },
    spec: {
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'mine',
          image: 'mine',
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  };
  const specs: Record<string, object> = {
    Service: { selector: labels, ports: [{ port: 80 }] },
    HorizontalPodAutoscaler: {
      maxReplicas: 1,
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'mine' },
    },
    Deployment: { replicas: 0, selector: { matchLabels: labels }, template },
  };
  const content = specs[kind] === undefined ? { data: { mine: 'yes' } } : { spec: specs[kind] };
  return { apiVersion, kind, metadata: { name, namespace, labels }, ...content };
}
