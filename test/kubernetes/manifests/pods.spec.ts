import type { KubernetesObject } from '@kubernetes/client-node';
import { beforeAll, describe, expect, it } from 'vitest';
import { containersOf, named, ofKind, podKinds } from './objects.js';
import { render, whyNoKustomize } from './rendering.js';

const PINNED = /^[\w./-]+(:(?!latest$)[\w.-]+)(@sha256:[0-9a-f]{64})?$/;

describe.skipIf(whyNoKustomize() !== undefined).each(['overlays/dev', 'overlays/prod'])('The pods of %s', (overlay) => {
  let objects: KubernetesObject[];

  beforeAll(async () => {
    objects = await render(overlay);
  });

  const everyPod = () => {
    const kinds = podKinds(objects);
    expect(kinds.length).toBe(overlay === 'overlays/dev' ? 2 : 1);
    return kinds;
  };
  const everyContainer = () =>
    everyPod().flatMap(({ title, template }) =>
      containersOf(template).map((container) => ({ title: `${title}, ${container.name}`, container })),
    );

  it('live in namespaces that refuse any less restricted pod', () => {
    const namespaces = ofKind(objects, 'Namespace');
    expect(new Set(namespaces.map(({ metadata }) => metadata?.name))).toEqual(
      new Set(['faas-system', 'scadable-faas']),
    );
    for (const { metadata } of namespaces) {
      expect(metadata?.labels).toMatchObject({
        'pod-security.kubernetes.io/enforce': 'restricted',
        'pod-security.kubernetes.io/warn': 'restricted',
      });
    }
    expect(new Set(everyPod().map(({ namespace }) => namespace))).toEqual(new Set(['faas-system']));
  });

  it('run as an ordinary user, and share nothing with their node', () => {
    for (const { title, template } of everyPod()) {
      const { securityContext, volumes = [], ...spec } = template.spec!;
      expect(securityContext, title).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      // A number, because the kubelet can't tell whether a user that an image only names is root.
      expect(securityContext?.runAsUser, title).toBeGreaterThan(0);
      expect([spec.hostNetwork, spec.hostPID, spec.hostIPC], title).toEqual([undefined, undefined, undefined]);
      expect(
        volumes.filter(({ hostPath }) => hostPath !== undefined),
        title,
      ).toEqual([]);
    }
  });

  it('have containers with a read-only root, no capability and no way to gain privileges', () => {
    for (const { title, container } of everyContainer()) {
      expect(container.securityContext, title).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(container.ports?.filter(({ hostPort }) => hostPort !== undefined) ?? [], title).toEqual([]);
    }
  });

  it('ask for what they need, and are bounded in memory', () => {
    for (const { title, container } of everyContainer()) {
      expect(container.resources, title).toEqual({
        requests: { cpu: expect.any(String), memory: expect.any(String) },
        limits: { memory: expect.any(String) },
      });
    }
  });

  it('have containers that are watched by probes, each at its own pace', () => {
    for (const { title, template } of everyPod()) {
      for (const { startupProbe, livenessProbe, readinessProbe } of template.spec?.containers ?? []) {
        const probes = [startupProbe, livenessProbe, readinessProbe];
        expect(
          probes.every((probe) => (probe?.timeoutSeconds ?? 0) > 1 && (probe?.periodSeconds ?? 0) > 1),
          title,
        ).toBe(true);
      }
    }
  });

  it('run images of a version that is named', () => {
    for (const { title, container } of everyContainer()) {
      expect(container.image, title).toMatch(PINNED);
      expect(container.image, title).not.toMatch(/^service-faas-manager/);
      expect(container.imagePullPolicy, title).toBe('IfNotPresent');
    }
    expect(named(objects, 'ConfigMap', 'faas-manager').data?.['WORKER_IMAGE']).toMatch(PINNED);
  });

  it('take no Service’s address for a setting', () => {
    expect(everyPod().every(({ template }) => template.spec?.enableServiceLinks === false)).toBe(true);
  });

  it('get every secret from a Secret that is not here', () => {
    expect(objects.filter(({ kind }) => kind === 'Secret')).toEqual([]);
    // Each a file, whose path is no secret: variables are shown by whatever shows a process.
    const SECRET = /(PASS|KEY|TOKEN|SECRET|DATABASE_URL)(?!\w*_FILE$)/;
    for (const { title, container } of everyContainer()) {
      for (const { name, valueFrom } of container.env ?? []) {
        expect(name, title).not.toMatch(SECRET);
        expect(valueFrom, `${title}, ${name}`).toBeUndefined();
      }
      expect(container.envFrom?.filter(({ secretRef }) => secretRef !== undefined) ?? [], title).toEqual([]);
    }
    const settings = ofKind(objects, 'ConfigMap').flatMap(({ data = {} }) => Object.keys(data));
    expect(settings.filter((name) => SECRET.test(name))).toEqual([]);
    expect(JSON.stringify(objects)).not.toMatch(/postgres(ql)?:\/\/|-----BEGIN/);
  });
});
