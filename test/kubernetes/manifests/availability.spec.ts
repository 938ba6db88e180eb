import type { KubernetesObject, V1Deployment } from '@kubernetes/client-node';
import { loadConfig } from '#libs/config/load-config.js';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { named, ofKind, podKinds, selects } from './objects.js';
import { render, renderOverlay, whyNoKustomize } from './rendering.js';

/** What an administrator puts into the Secret. */
const SECRET = {
  API_KEYS: 'a-key-of-sixteen',
  POSTGRES_PASSWORD: 'secret',
  DATABASE_URL: 'postgresql://u:p@db/faasdb',
};
const SECRETS = '/etc/faas/secrets';

const missing = whyNoKustomize() !== undefined;

describe.skipIf(missing).each(['overlays/dev', 'overlays/prod'])('The manager in %s', (overlay) => {
  let objects: KubernetesObject[];
  let deployment: V1Deployment;

  beforeAll(async () => {
    objects = await render(overlay);
    deployment = named(objects, 'Deployment', 'faas-manager');
  });

  const container = () => deployment.spec!.template.spec!.containers[0]!;
  const settings = () => named(objects, 'ConfigMap', 'faas-manager').data ?? {};
  /** Read as in the pod, where the Secret is a folder. */
  const configured = () => {
    const folder = mkdtempSync(join(tmpdir(), 'secrets-'));
    try {
      for (const [name, value] of Object.entries(SECRET)) writeFileSync(join(folder, name), value);
      const here = Object.entries(settings()).map(([name, value]) => [name, value.replace(SECRETS, folder)]);
      return loadConfig(Object.fromEntries(here) as NodeJS.ProcessEnv);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  it('begins when it has database and API server, and is not taken out of service when all managers lose them', () => {
    const { startupProbe, livenessProbe, readinessProbe } = container();
    expect(startupProbe?.httpGet).toEqual({ path: '/readyz', port: 'http' });
    expect(livenessProbe?.httpGet).toEqual({ path: '/livez', port: 'http' });
    expect(readinessProbe?.httpGet).toEqual({ path: '/readyz?exclude=database&exclude=engine', port: 'http' });
  });

  it('may wait a minute for its database at boot', () => {
    const { periodSeconds = 0, failureThreshold = 0 } = container().startupProbe ?? {};
    expect(periodSeconds * failureThreshold).toBeGreaterThanOrEqual(90);
  });

  it('is replaced without a gap, and leaves no call unfinished', () => {
    expect(deployment.spec?.strategy?.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    const { server, functions } = configured();
    expect(server.shutdownDelayMs).toBeGreaterThanOrEqual(5_000);
    expect(server.drainTimeoutMs).toBeGreaterThanOrEqual(functions.maxTimeoutMs);
    const grace = (deployment.spec?.template.spec?.terminationGracePeriodSeconds ?? 0) * 1_000;
    expect(grace - server.shutdownDelayMs - server.drainTimeoutMs).toBeGreaterThanOrEqual(10_000);
  });

  it('is reached at the Service’s ports on those it listens on', () => {
    const service = named(objects, 'Service', 'faas-manager').spec!;
    expect(service.ports).toEqual([
      { name: 'http', port: 80, targetPort: 'http' },
      { name: 'layers', port: 8081, targetPort: 'layers' },
    ]);
    expect(selects({ matchLabels: service.selector ?? {} }, deployment.spec?.template.metadata?.labels ?? {})).toBe(
      true,
    );
    expect(settings()['LISTEN_ADDR']).toBe(':8080');
    expect(settings()['LAYERS_ADDR']).toBe(':8081');
    expect(settings()['LAYERS_URL']).toBe('http://faas-manager.faas-system.svc:8081');
    expect(container().ports).toEqual([
      { name: 'http', containerPort: 8080 },
      { name: 'layers', containerPort: 8081 },
    ]);
  });

  it('reads its settings and its secrets, before and after the migration', () => {
    const generated = named(objects, 'ConfigMap', 'faas-manager').metadata?.name;
    const { initContainers = [] } = deployment.spec!.template.spec!;
    expect(initContainers.map(({ name }) => name)).toEqual(['migrate']);
    for (const { env, envFrom, image, volumeMounts } of [...initContainers, container()]) {
      expect(env).toBeUndefined();
      expect(envFrom).toEqual([{ configMapRef: { name: generated } }]);
      expect(volumeMounts).toContainEqual({ name: 'secrets', mountPath: SECRETS, readOnly: true });
      expect(image).toBe(container().image);
    }
    const { volumes, securityContext } = deployment.spec!.template.spec!;
    expect(volumes).toContainEqual({ name: 'secrets', secret: { secretName: 'faas-manager', defaultMode: 0o440 } });
    expect(securityContext?.fsGroup).toBe(securityContext?.runAsGroup);
  });

  it('is let in by its keys and into its database by what the Secret holds', () => {
    const { auth, database } = configured();
    expect(auth).toEqual(loadConfig({ API_KEYS: SECRET.API_KEYS }).auth);
    expect(database).toMatchObject({
      kind: 'server',
      url: overlay === 'overlays/dev' ? 'postgresql://faas:secret@faas-postgres:5432/faasdb' : SECRET.DATABASE_URL,
    });
    expect(() => loadConfig(settings())).toThrow(/API_KEYS_FILE names a file that can't be read/);
  });

  it('is given no setting that the README doesn’t know', () => {
    const readme = readFileSync('README.md', 'utf8');
    const unknown = Object.keys(settings()).filter((name) => !readme.includes(`\`${name}\``));
    expect(unknown).toEqual([]);
  });

  it('has no object that selects nothing', () => {
    const pods = podKinds(objects).map(({ namespace, template }) => ({ namespace, labels: template.metadata?.labels }));
    const selected = (namespace: string | undefined, matchLabels: Record<string, string> = {}) =>
      pods.some((pod) => pod.namespace === namespace && selects({ matchLabels }, pod.labels ?? {}));
    for (const { metadata, spec } of ofKind(objects, 'Service')) {
      expect(selected(metadata?.namespace, spec?.selector), `Service ${metadata?.name}`).toBe(true);
    }
    for (const { metadata, spec } of ofKind(objects, 'PodDisruptionBudget')) {
      expect(selected(metadata?.namespace, spec?.selector?.matchLabels), `budget ${metadata?.name}`).toBe(true);
    }
    for (const { template } of podKinds(objects)) {
      const { topologySpreadConstraints = [], affinity } = template.spec!;
      const apart = affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
      const selectors = [...topologySpreadConstraints, ...apart.map(({ podAffinityTerm }) => podAffinityTerm)];
      for (const one of selectors) expect(selects(one.labelSelector, template.metadata?.labels ?? {})).toBe(true);
    }
  });
});

describe.skipIf(missing)('What is particular to an overlay', () => {
  it('dev keeps its PostgreSQL’s data in a volume that outlives it', async () => {
    const objects = await render('overlays/dev');
    const { spec } = named(objects, 'StatefulSet', 'faas-postgres');
    expect(spec?.persistentVolumeClaimRetentionPolicy).toBeUndefined();
    const [claim] = spec?.volumeClaimTemplates ?? [];
    const mounts = spec?.template.spec?.containers[0]?.volumeMounts ?? [];
    const dataDir = spec?.template.spec?.containers[0]?.env?.find(({ name }) => name === 'PGDATA')?.value;
    const mount = mounts.find(({ name }) => name === claim?.metadata?.name);
    expect(dataDir?.startsWith(`${mount?.mountPath}/`)).toBe(true);
  });

  it('dev’s manager finds its PostgreSQL under the name, user and database that it has', async () => {
    const objects = await render('overlays/dev');
    const { data = {} } = named(objects, 'ConfigMap', 'faas-manager');
    const { metadata, spec } = named(objects, 'StatefulSet', 'faas-postgres');
    expect(data['POSTGRES_HOST']).toBe(named(objects, 'Service', 'faas-postgres').metadata?.name);
    expect(spec?.serviceName).toBe(metadata?.name);
    const env = Object.fromEntries((spec?.template.spec?.containers[0]?.env ?? []).map((one) => [one.name, one]));
    expect(env['POSTGRES_USER']?.value).toBe(data['POSTGRES_USER']);
    expect(env['POSTGRES_DB']?.value).toBe(data['POSTGRES_DB']);
    expect(env['POSTGRES_PASSWORD_FILE']?.value).toBe(data['POSTGRES_PASSWORD_FILE']);
    expect(spec?.template.spec?.volumes).toContainEqual({
      name: 'secrets',
      secret: {
        secretName: 'faas-manager',
        defaultMode: 0o440,
        items: [{ key: 'POSTGRES_PASSWORD', path: 'POSTGRES_PASSWORD' }],
      },
    });
  });

  it('prod always has two managers or more, and no drain takes more than one', async () => {
    const objects = await render('overlays/prod');
    const { spec } = named(objects, 'HorizontalPodAutoscaler', 'faas-manager');
    expect(spec.minReplicas).toBeGreaterThanOrEqual(2);
    expect(spec.scaleTargetRef).toEqual({ apiVersion: 'apps/v1', kind: 'Deployment', name: 'faas-manager' });
    expect(named(objects, 'PodDisruptionBudget', 'faas-manager').spec).toMatchObject({ maxUnavailable: 1 });
  });

  it('prod speaks TLS at the host it answers for', async () => {
    const objects = await render('overlays/prod');
    const { spec } = named(objects, 'Ingress', 'faas-manager');
    expect(spec?.tls?.flatMap(({ hosts }) => hosts)).toEqual(spec?.rules?.map(({ host }) => host));
    expect(spec?.rules?.[0]?.http?.paths).toEqual([
      {
        path: '/',
        pathType: 'Prefix',
        backend: { service: { name: 'faas-manager', port: { name: 'http' } } },
      },
    ]);
  });

  it('prod’s ServiceMonitor finds the manager’s Service', async () => {
    const objects = await renderOverlay({ resources: ['overlays/prod'], components: ['components/service-monitor'] });
    const monitor = objects.find(({ kind }) => kind === 'ServiceMonitor') as KubernetesObject & {
      spec: { selector: { matchLabels: Record<string, string> }; endpoints: readonly { port: string }[] };
    };
    const service = named(objects, 'Service', 'faas-manager');
    expect(monitor.metadata?.namespace).toBe(service.metadata?.namespace);
    expect(selects(monitor.spec.selector, service.metadata?.labels ?? {})).toBe(true);
    expect(service.spec?.ports?.map(({ name }) => name)).toEqual(['http', 'layers']);
    expect(monitor.spec.endpoints.map(({ port }) => port)).toEqual(['http']);
  });
});
