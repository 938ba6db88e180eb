import { expect, it } from 'vitest';
import { autoscaler, codeOf, configMap, deployment, service } from './support/manifests.js';
import { describeOnClusters } from './support/targets.js';

describeOnClusters('the Kubernetes API refuses', (target) => {
  const admin = () => target().admin;
  const faults: [string, () => Promise<{ code: number; body: unknown }>, number, RegExp][] = [
    [
      'an unknown field',
      () => admin().post('configmaps?fieldValidation=Strict', configMap('u', {}, { foo: 1 })),
      400,
      /unknown field "foo"/,
    ],
    [
      'a wrong type',
      () => admin().post('configmaps', configMap('t', { a: 1 })),
      400,
      /cannot be handled as a ConfigMap: json: cannot unmarshal/,
    ],
    [
      'a bad name',
      () => admin().post('configmaps', configMap('Bad_Name')),
      422,
      /metadata.name: Invalid value: "Bad_Name"/,
    ],
    ['no name', () => admin().post('configmaps', configMap('')), 422, /name or generateName is required/],
    ['another kind', () => admin().post('secrets', configMap('k')), 400, /cannot be handled as a Secret/],
    [
      'another namespace',
      () => admin().post('configmaps', { ...configMap('n'), metadata: { name: 'n', namespace: 'other' } }),
      400,
      /namespace of the provided object does not match/,
    ],
    [
      'more than 1 MiB in a ConfigMap',
      () => admin().post('configmaps', configMap('big', { a: 'x'.repeat(1024 * 1024 + 1) })),
      422,
      /Too long: may not be more than 1048576 bytes/,
    ],
    [
      'more than 3 MiB in a request',
      () => admin().post('configmaps', configMap('huge', { a: 'x'.repeat(3_300_000) })),
      413,
      /Request entity too large: limit is 3145728/,
    ],
    [
      'a bad key',
      () => admin().post('configmaps', configMap('key', { 'a/b': '' })),
      422,
      /data\[a\/b\]: Invalid value/,
    ],
    [
      'a bad label',
      () =>
        admin().post('configmaps', { ...configMap('label'), metadata: { name: 'label', labels: { 'a b': 'c d' } } }),
      422,
      /metadata.labels: Invalid value: "a b".*metadata.labels: Invalid value: "c d"/,
    ],
    ['no JSON', () => admin().post('configmaps', '{nope'), 400, /couldn't get version\/kind; json parse error/],
    [
      'a selector that misses the template',
      () =>
        admin().post(
          'apps/v1/deployments',
          deployment(target(), 'miss', {}, { selector: { matchLabels: { a: 'b' } } }),
        ),
      422,
      /spec.template.metadata.labels: Invalid value: .*`selector` does not match template `labels`/,
    ],
    [
      'requests above limits',
      () =>
        admin().post(
          'apps/v1/deployments',
          deployment(target(), 'r', { resources: { requests: { cpu: '2' }, limits: { cpu: '1' } } }),
        ),
      422,
      /resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1/,
    ],
    [
      'a mount of no volume',
      () =>
        admin().post(
          'apps/v1/deployments',
          deployment(target(), 'm', { volumeMounts: [{ name: 'no', mountPath: '/x' }] }),
        ),
      422,
      /volumeMounts\[0\].name: Not found: "no"/,
    ],
    [
      'a preStop longer than the grace',
      () =>
        admin().post(
          'apps/v1/deployments',
          deployment(target(), 'p', { lifecycle: { preStop: { sleep: { seconds: 50 } } } }),
        ),
      422,
      /preStop.sleep: Invalid value: 50: must be non-negative and less than terminationGracePeriodSeconds \(5\)/,
    ],
    [
      'a value out of an enumeration',
      () => admin().post('apps/v1/deployments', deployment(target(), 'e', { imagePullPolicy: 'Sometimes' })),
      422,
      /imagePullPolicy: Unsupported value/,
    ],
    [
      'no image',
      () => admin().post('apps/v1/deployments', deployment(target(), 'i', { image: '' })),
      422,
      /containers\[0\].image: Required value/,
    ],
    [
      'a quantity that is none',
      () =>
        admin().post('apps/v1/deployments', deployment(target(), 'q', { resources: { limits: { cpu: '1 core' } } })),
      400,
      /quantities must match the regular expression/,
    ],
    [
      'an autoscaler of 0',
      () => admin().post('autoscaling/v2/horizontalpodautoscalers', autoscaler('x', 0, 3)),
      422,
      /spec.minReplicas: Invalid value: 0: must be greater than or equal to 1/,
    ],
    [
      'a port of 0',
      () => admin().post('services', { ...service('x'), spec: { ports: [{ port: 0 }] } }),
      422,
      /spec.ports\[0\].port: Invalid value: 0: must be between 1 and 65535, inclusive/,
    ],
    [
      'an owner without a uid',
      () =>
        admin().post('configmaps', {
          ...configMap('o'),
          metadata: { name: 'o', ownerReferences: [{ apiVersion: 'v1', kind: 'X', name: 'x', uid: '' }] },
        }),
      422,
      /metadata.ownerReferences.uid: Invalid value: "": must not be empty/,
    ],
  ];
  it.each(faults)('%s', async (_what, send, code, message) => {
    const answer = await send();
    expect(answer).toMatchObject({ code, body: { kind: 'Status', status: 'Failure', code } });
    expect((answer.body as { message: string }).message).toMatch(message);
  });

  it('changes of an immutable ConfigMap', async () => {
    await admin().post('configmaps', configMap('fixed', { a: 'b' }, { immutable: true }));
    expect(await admin().merge('configmaps/fixed', { data: { a: 'c' } })).toMatchObject({
      code: 422,
      body: { message: 'ConfigMap "fixed" is invalid: data: Forbidden: field is immutable when `immutable` is set' },
    });
    expect((await admin().merge('configmaps/fixed', { metadata: { labels: { a: 'b' } } })).code).toBe(200);
  });

  it('another selector of a Deployment, and another address of a Service', async () => {
    await admin().post('configmaps', codeOf('immutable', ''));
    await admin().post('apps/v1/deployments', deployment(target(), 'immutable', {}, { replicas: 0 }));
    const moved = { matchLabels: { app: 'faas-worker', func: 'other' } };
    const template = { metadata: { labels: moved.matchLabels } };
    const answer = await admin().merge('apps/v1/deployments/immutable', { spec: { selector: moved, template } });
    expect(answer.code).toBe(422);
    expect(answer.body.message).toMatch(/spec.selector: Invalid value: .*: field is immutable/);
    const made = await admin().post('services', service('immutable'));
    expect(made.body.spec.clusterIP).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    expect((await admin().merge('services/service-immutable', { spec: { clusterIP: '10.96.0.250' } })).code).toBe(422);
  });
});
