import {
  ApiException,
  AppsV1Api,
  CoreV1Api,
  KubernetesObjectApi,
  Log,
  PatchStrategy,
  VersionApi,
  type KubernetesObject,
} from '@kubernetes/client-node';
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { codeOf, configMap, deployment, ECHO } from './support/manifests.js';
import { describeOnClusters, until } from './support/targets.js';
import { Workload } from './support/workloads.js';

describeOnClusters('the JavaScript client', (target) => {
  const config = () => target().admin.config;
  const namespaced = <T extends { metadata: object }>(manifest: T): T & KubernetesObject => ({
    ...manifest,
    metadata: { ...manifest.metadata, namespace: target().admin.namespace },
  });

  it('finds every kind by discovery, and applies, reads, lists and deletes it', async () => {
    const objects = KubernetesObjectApi.makeApiClient(config());
    const { namespace } = target().admin;
    for (const manifest of [configMap('by-client'), deployment(target(), 'by-client', {}, { replicas: 0 })]) {
      const strategy = PatchStrategy.ServerSideApply;
      const made = await objects.patch(namespaced(manifest), undefined, undefined, 'client', true, strategy);
      expect(made.metadata?.uid).toBeDefined();
      const { apiVersion, kind } = manifest;
      const read = await objects.read({ apiVersion, kind, metadata: { name: 'by-client', namespace } });
      expect(read.metadata?.uid).toBe(made.metadata?.uid);
      const list = await objects.list(apiVersion, kind, namespace);
      expect(list.items.map(({ metadata }) => metadata?.name)).toContain('by-client');
      await objects.delete(namespaced(manifest), undefined, undefined, undefined, undefined, 'Foreground');
      await until('it is gone', () =>
        objects.read({ apiVersion, kind, metadata: { name: 'by-client', namespace } }).then(
          () => undefined,
          (error: unknown) => (error instanceof ApiException && error.code === 404) || undefined,
        ),
      );
    }
  });

  it('writes back what it read, with its own idea of times', async () => {
    const { namespace } = target().admin;
    const apps = config().makeApiClient(AppsV1Api);
    const body = deployment(target(), 'typed', {}, { replicas: 0 }) as never;
    const made = await apps.createNamespacedDeployment({ namespace, body });
    expect(made.metadata?.creationTimestamp).toBeInstanceOf(Date);
    made.metadata!.labels = { ...made.metadata!.labels, changed: 'yes' };
    const stored = await until('no controller writes in between', async () => {
      const live = await apps.readNamespacedDeployment({ namespace, name: 'typed' });
      live.metadata!.labels = { ...live.metadata!.labels, changed: 'yes' };
      return apps.replaceNamespacedDeployment({ namespace, name: 'typed', body: live }).catch(() => undefined);
    });
    expect(stored.metadata?.labels?.['changed']).toBe('yes');
    await expect(apps.readNamespacedDeployment({ namespace, name: 'none' })).rejects.toMatchObject({ code: 404 });
  });

  it('streams a log and asks for the version', async () => {
    const { namespace } = target().admin;
    const core = config().makeApiClient(CoreV1Api);
    const talk = new Workload(target(), 'stream');
    await core.createNamespacedConfigMap({
      namespace,
      body: codeOf('stream', `print("loaded", flush=True)\n${ECHO}`) as never,
    });
    await talk.apply();
    const [pod] = await talk.ready(1);
    const sink = new PassThrough();
    let text = '';
    sink.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    await new Log(config()).log(namespace, pod!.metadata.name, 'worker', sink, { follow: true });
    await until('the line has come', () => text.includes('loaded\n') || undefined);
    // Aborting it instead would be an error that nobody listens for inside the client.
    const ended = new Promise((resolve) => sink.once('end', resolve));
    const { gitVersion } = await config().makeApiClient(VersionApi).getCode();
    expect(gitVersion).toMatch(/^v1\.\d+/);
    await talk.remove();
    await ended;
  });
});
