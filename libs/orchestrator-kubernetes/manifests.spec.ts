import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { manifestsFor } from './manifests.js';
import { memoryQuantity } from './quantities.js';
import { FUNCTION, placementOf, workloadOf } from './testing/objects.js';

const OWN = {
  'app.kubernetes.io/name': 'faas-worker',
  'app.kubernetes.io/instance': FUNCTION,
  'app.kubernetes.io/component': 'function',
  'app.kubernetes.io/part-of': 'service-faas',
  'app.kubernetes.io/managed-by': 'service-faas',
  app: 'faas-worker',
  func: FUNCTION,
  'faas.owner': 'me',
  'faas.function': FUNCTION,
};
const podOf = (...given: Parameters<typeof manifestsFor>) => manifestsFor(...given).deployment.spec!.template.spec!;

describe('manifestsFor', () => {
  const { code, deployment, service, autoscaler } = manifestsFor(workloadOf(), placementOf());

  it('names and labels everything as its clients know it, in the configured namespace', () => {
    expect([code, deployment, service, autoscaler].map((object) => object?.metadata)).toEqual([
      {
        name: `handler-code-${FUNCTION}-7`,
        namespace: 'scadable-faas',
        labels: { ...OWN, 'faas.revision': '7' },
      },
      {
        name: `faas-worker-${FUNCTION}`,
        namespace: 'scadable-faas',
        labels: { ...OWN, 'faas.spec': 'hash' },
        annotations: { 'faas.callable': workloadOf().functionName },
      },
      { name: `service-${FUNCTION}`, namespace: 'scadable-faas', labels: OWN },
      { name: `hpa-${FUNCTION}`, namespace: 'scadable-faas', labels: OWN },
    ]);
    expect(manifestsFor(workloadOf(), placementOf({ namespace: 'other' })).service.metadata?.namespace).toBe('other');
  });

  it('keeps code as base64 that is not UTF-8 or would outgrow a request as escaped text, and no other', () => {
    const largest = 1024 * 1024;
    for (const character of ['\u0001', '\u0085']) {
      const bytes = Buffer.from(character.repeat(largest / Buffer.byteLength(character)));
      const made = manifestsFor(workloadOf({ code: bytes }), placementOf()).code;
      expect(made.data).toBeUndefined();
      expect(Buffer.from(made.binaryData?.['handler.py'] ?? '', 'base64').equals(bytes)).toBe(true);
    }
    const latin = Buffer.from("# coding: latin-1\nWORD = 'gr\u00fcn'\n", 'latin1');
    const { data, binaryData } = manifestsFor(workloadOf({ code: latin }), placementOf()).code;
    expect(data).toBeUndefined();
    expect(Buffer.from(binaryData?.['handler.py'] ?? '', 'base64').equals(latin)).toBe(true);
    const quotes = manifestsFor(workloadOf({ code: Buffer.alloc(largest, '"') }), placementOf()).code;
    expect(quotes.binaryData).toBeUndefined();
    expect(quotes.data?.['handler.py']).toHaveLength(largest);
  });

  it('keeps values of secrets in a Secret of its own for each content, and nowhere else', () => {
    const secrets = { variables: { TOKEN: 'of a variable' }, files: { 'tls.pem': 'of a file' }, digest: 'd1' };
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    const made = manifestsFor(workloadOf({ secrets }), placementOf());
    expect(made.secrets).toEqual({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: `secrets-${FUNCTION}-d1`, namespace: 'scadable-faas', labels: OWN },
      type: 'Opaque',
      immutable: true,
      data: { TOKEN: base64('of a variable'), 'tls.pem': base64('of a file') },
    });
    const { containers, volumes } = made.deployment.spec!.template.spec!;
    expect(containers[0]?.env).toContainEqual({
      name: 'TOKEN',
      valueFrom: { secretKeyRef: { name: `secrets-${FUNCTION}-d1`, key: 'TOKEN' } },
    });
    expect(containers[0]?.volumeMounts).toContainEqual({ name: 'secrets', mountPath: '/run/secrets', readOnly: true });
    expect(volumes).toContainEqual({
      name: 'secrets',
      secret: {
        secretName: `secrets-${FUNCTION}-d1`,
        defaultMode: 0o444,
        items: [{ key: 'tls.pem', path: 'tls.pem' }],
      },
    });
    expect(JSON.stringify({ ...made, secrets: undefined })).not.toMatch(
      new RegExp(`of a variable|of a file|${base64('of a variable')}|${base64('of a file')}`),
    );
    expect(manifestsFor(workloadOf(), placementOf()).secrets).toBeUndefined();
  });

  it('keeps code for good, under the name that its handler is imported by', () => {
    expect(code).toMatchObject({ immutable: true, data: { 'handler.py': 'def greet(payload): ...' } });
    expect(podOf(workloadOf(), placementOf()).volumes?.[0]).toEqual({
      name: 'code',
      configMap: {
        name: code.metadata?.name,
        defaultMode: 0o444,
        items: [{ key: 'handler.py', path: 'handler.py' }],
      },
    });
  });

  it('leaves the count of replicas to whoever sets it', () => {
    expect(deployment.spec).not.toHaveProperty('replicas');
  });

  it('selects its own pods only, by labels that never change', () => {
    const selector = { app: 'faas-worker', func: FUNCTION };
    expect(deployment.spec?.selector).toEqual({ matchLabels: selector });
    expect(service.spec?.selector).toEqual(selector);
    const later = manifestsFor(workloadOf({ revision: 8 }), { ...placementOf(), spec: 'next' });
    expect(later.deployment.spec?.selector).toEqual(deployment.spec?.selector);
    expect(later.deployment.spec?.template.metadata?.labels).toMatchObject({
      ...selector,
      'faas.revision': '8',
      'faas.spec': 'next',
    });
  });

  it('never has fewer ready replicas than before while it rolls', () => {
    expect(deployment.spec?.strategy).toMatchObject({ type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0 } });
  });

  it('serves port 80 of the Service from port 8000 of the pods', () => {
    expect(service.spec).toMatchObject({ type: 'ClusterIP', ports: [{ port: 80, targetPort: 8000, protocol: 'TCP' }] });
    expect(podOf(workloadOf(), placementOf()).containers[0]?.ports?.[0]?.containerPort).toBe(8000);
  });

  it('scales from 1 to 20 at 70 % of the requested CPU and 80 % of the memory limit, upwards fast and downwards slowly', () => {
    const resource = (name: string, target: object) => ({ type: 'Resource', resource: { name, target } });
    const mib = Math.ceil(workloadOf().limits.memoryMiB * 0.8);
    expect(autoscaler).toMatchObject({
      apiVersion: 'autoscaling/v2',
      spec: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: `faas-worker-${FUNCTION}` },
        minReplicas: 1,
        maxReplicas: 20,
        metrics: [
          resource('cpu', { type: 'Utilization', averageUtilization: 70 }),
          resource('memory', { type: 'AverageValue', averageValue: memoryQuantity(mib) }),
        ],
        behavior: {
          scaleUp: { stabilizationWindowSeconds: 30, policies: [{ type: 'Pods', value: 2, periodSeconds: 15 }] },
          scaleDown: { stabilizationWindowSeconds: 120, policies: [{ type: 'Pods', value: 1, periodSeconds: 60 }] },
        },
      },
    });
  });

  it('has an autoscaler exactly where there is something to choose, and never one that the API refuses', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.integer({ min: 1, max: 40 }), (replicas, maxReplicas) => {
        const placement = placementOf();
        const autoscale = { ...placement.config.autoscale, maxReplicas };
        const config = { ...placement.config, autoscale };
        const { autoscaler: made } = manifestsFor(workloadOf({ replicas }), { ...placement, config });
        expect(made !== undefined).toBe(maxReplicas > 1);
        if (made === undefined) return;
        const { minReplicas = 0, maxReplicas: most } = made.spec;
        expect(minReplicas).toBeGreaterThanOrEqual(Math.max(1, replicas));
        expect(most).toBeGreaterThanOrEqual(minReplicas);
      }),
    );
  });

  it('gives names that every kind takes', () => {
    const id = fc.string({
      unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz234567'),
      minLength: 16,
      maxLength: 16,
    });
    fc.assert(
      fc.property(id, fc.integer({ min: 1, max: 2_147_483_647 }), (functionId, revision) => {
        const made = manifestsFor(workloadOf({ functionId, revision }), placementOf());
        for (const object of [made.code, made.deployment, made.service, made.autoscaler]) {
          expect(object?.metadata?.name).toMatch(/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/);
        }
      }),
    );
  });
});
