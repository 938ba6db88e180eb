import { describe, expect, it } from 'vitest';
import { fieldsOf, typeNameOf } from './kinds.js';
import { validate } from './validate.js';

const deployment = (changes: object = {}, container: object = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', labels: { app: 'web' } },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'web', image: 'web:1', ...container }] },
    },
    ...changes,
  },
});

describe('the published Kubernetes schema', () => {
  it('accepts a sound object', () => {
    expect(validate(deployment())).toEqual([]);
  });

  it.each([
    ['an unknown field', deployment({ replica: 1 }), 'spec.replica: unknown field'],
    [
      'an unknown field deep inside',
      deployment({}, { securityContext: { runAsNonroot: true } }),
      'spec.template.spec.containers[0].securityContext.runAsNonroot: unknown field',
    ],
    ['a wrong type', deployment({ replicas: '1' }), 'spec.replicas: must be integer'],
    ['a missing field', deployment({ selector: undefined }), 'spec.selector: is missing'],
    [
      'a value out of an enumeration',
      deployment({}, { imagePullPolicy: 'Sometimes' }),
      'spec.template.spec.containers[0].imagePullPolicy: must be equal to one of the allowed values (Always, IfNotPresent, Never)',
    ],
    [
      'an unknown kind',
      { apiVersion: 'apps/v1', kind: 'Deploiment' },
      'no kind "Deploiment" is registered for version "apps/v1"',
    ],
    [
      'another group',
      { apiVersion: 'apps/v2', kind: 'Deployment' },
      'no kind "Deployment" is registered for version "apps/v2"',
    ],
    ['a list', [], 'not an object'],
    [
      'a label that is no string',
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a', labels: { n: 1 } } },
      'metadata.labels.n: must be string',
    ],
  ])('refuses %s', (_what, object, fault) => {
    expect(validate(object)).toContain(fault);
  });

  it('knows the fields of every kind that it can check', () => {
    const kinds = ['v1/ConfigMap', 'v1/Pod', 'apps/v1/StatefulSet', 'autoscaling/v2/HorizontalPodAutoscaler'];
    for (const kind of [...kinds, 'batch/v1/Job', 'networking.k8s.io/v1/Ingress', 'policy/v1/PodDisruptionBudget']) {
      const at = kind.lastIndexOf('/');
      expect(fieldsOf(typeNameOf(kind.slice(0, at), kind.slice(at + 1))), kind).toBeDefined();
    }
  });
});
