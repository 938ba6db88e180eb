import { CoreV1Api, makeInformer, type V1ConfigMap, Watch } from '@kubernetes/client-node';
import { expect, it } from 'vitest';
import { configMap } from './support/manifests.js';
import { describeOnClusters, describeOnFake, type Target, until } from './support/targets.js';

interface Event {
  readonly type: string;
  readonly object: {
    readonly metadata: { readonly name?: string; readonly resourceVersion?: string };
    readonly code?: number;
  };
}

/** A watch of ConfigMaps that collects what it is told. */
async function watching(target: Target, query: Record<string, string | boolean | number>) {
  const events: Event[] = [];
  const { promise: ended, resolve } = Promise.withResolvers<unknown>();
  const watch = new Watch(target.admin.config);
  const path = target.admin.pathOf('configmaps');
  const controller = await watch.watch(path, query, (type, object) => events.push({ type, object }), resolve);
  const names = () =>
    events.filter(({ type }) => type !== 'BOOKMARK').map(({ type, object }) => `${type} ${object.metadata.name}`);
  return { events, names, ended, stop: () => controller.abort() };
}

const labelled = (name: string, labels: Record<string, string>) => ({ ...configMap(name), metadata: { name, labels } });

describeOnClusters('a watch', (target) => {
  const admin = () => target().admin;

  it('tells what happens after a version, in order', async () => {
    const labels = { watch: 'order' };
    const { metadata } = (await admin().get('configmaps')).body;
    await admin().post('configmaps', labelled('order-1', labels));
    const watch = await watching(target(), { resourceVersion: metadata.resourceVersion, labelSelector: 'watch=order' });
    await admin().post('configmaps', labelled('order-2', labels));
    await admin().merge('configmaps/order-1', { data: { a: 'c' } });
    await admin().delete('configmaps/order-2');
    await expect.poll(watch.names).toEqual(['ADDED order-1', 'ADDED order-2', 'MODIFIED order-1', 'DELETED order-2']);
    const versions = watch.events.map(({ object }) => Number(object.metadata.resourceVersion));
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
    watch.stop();
  });

  it('begins with what there is when no version is named', async () => {
    await admin().post('configmaps', labelled('begin', { watch: 'begin' }));
    const watch = await watching(target(), { labelSelector: 'watch=begin' });
    await expect.poll(watch.names).toEqual(['ADDED begin']);
    watch.stop();
  });

  it('adds an object that comes under its selector and deletes one that leaves it', async () => {
    await admin().post('configmaps', labelled('moves', { watch: 'elsewhere' }));
    const watch = await watching(target(), { labelSelector: 'watch=here' });
    await admin().merge('configmaps/moves', { metadata: { labels: { watch: 'here' } } });
    await admin().merge('configmaps/moves', { data: { a: 'c' } });
    await admin().merge('configmaps/moves', { metadata: { labels: { watch: 'elsewhere' } } });
    await expect.poll(watch.names).toEqual(['ADDED moves', 'MODIFIED moves', 'DELETED moves']);
    watch.stop();
  });

  it('marks how far it has come, and ends in time', async () => {
    const version = (await admin().get('configmaps')).body.metadata.resourceVersion;
    await admin().post('configmaps', labelled('marked', { watch: 'nothing' }));
    const query = {
      resourceVersion: version,
      labelSelector: 'watch=marks',
      allowWatchBookmarks: true,
      // A real one marks about two seconds before the end, when it next looks at the clock.
      timeoutSeconds: target().fake === undefined ? 8 : 3,
    };
    const watch = await watching(target(), query);
    expect(await watch.ended).toBeNull();
    const marks = watch.events.filter(({ type }) => type === 'BOOKMARK');
    expect(marks.length).toBeGreaterThan(0);
    expect(watch.names()).toEqual([]);
    const { object } = marks.at(-1)!;
    expect(Number(object.metadata.resourceVersion)).toBeGreaterThan(Number(version));
    expect(object).toMatchObject({ kind: 'ConfigMap', apiVersion: 'v1' });
  });

  it('says 410 for a version that is no longer kept, inside the stream', async () => {
    await target().fake?.controls.compact();
    const watch = await watching(target(), { resourceVersion: '1' });
    await watch.ended;
    expect(watch.events).toMatchObject([
      {
        type: 'ERROR',
        object: {
          kind: 'Status',
          code: 410,
          reason: 'Expired',
          message: expect.stringMatching(/^too old resource version: 1 \(\d+\)$/),
        },
      },
    ]);
  });
});

describeOnFake('an informer on the small Kubernetes', (target) => {
  const informer = () => {
    const { config, namespace } = target().admin;
    const core = config.makeApiClient(CoreV1Api);
    const made = makeInformer<V1ConfigMap>(config, target().admin.pathOf('configmaps'), () =>
      core.listNamespacedConfigMap({ namespace }),
    );
    // As every user of an informer has to.
    made.on('error', () => void made.start());
    return made;
  };
  const has = (list: ReturnType<typeof informer>, name: string) => () =>
    list.get(name, target().admin.namespace) !== undefined;

  it('goes on after its connection was cut', async () => {
    const { admin, fake } = target();
    const list = informer();
    await list.start();
    await admin.post('configmaps', configMap('before-cut'));
    await until('the informer knows the first', has(list, 'before-cut'));
    await fake!.controls.dropWatches();
    await admin.post('configmaps', configMap('after-cut'));
    await until('the informer knows the second', has(list, 'after-cut'));
    await list.stop();
  });

  it('lists anew when its version has gone meanwhile', async () => {
    const { admin, fake } = target();
    const list = informer();
    await admin.post('configmaps', configMap('goes'));
    await list.start();
    await until('the informer knows it', has(list, 'goes'));
    await fake!.controls.down();
    await fake!.controls.up();
    await admin.delete('configmaps/goes');
    await admin.post('configmaps', configMap('comes'));
    await fake!.controls.compact();
    await until('the informer knows the new one', has(list, 'comes'));
    expect(list.get('goes', admin.namespace)).toBeUndefined();
    await list.stop();
  });
});
