import { expect, it } from 'vitest';
import { autoscaler, configMap, deployment } from './support/manifests.js';
import { type Answer, describeOnClusters, until } from './support/targets.js';

interface Container {
  readonly name: string;
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly [field: string]: unknown;
}

describeOnClusters('server-side apply', (target) => {
  const admin = () => target().admin;
  const at = (name: string) => `apps/v1/deployments/${name}`;
  const idle = (name: string, container: object = {}, spec: object = {}, pod: object = {}) =>
    deployment(target(), name, container, { replicas: 0, ...spec }, pod);
  const container = ({ body }: Answer): Container => body.spec.template.spec.containers[0];
  const managers = ({ body }: Answer): string[] =>
    (body.metadata.managedFields as Record<string, string>[]).map(
      ({ manager, operation, subresource }) => `${manager} ${subresource ?? operation}`,
    );

  it('creates what is not there and says 201, then 200', async () => {
    const first = await admin().apply('configmaps/a', 'me', configMap('a'));
    expect(first.code).toBe(201);
    expect(first.body.metadata.managedFields).toMatchObject([
      { manager: 'me', operation: 'Apply', fieldsV1: { 'f:data': { 'f:a': {} } } },
    ]);
    const second = await admin().apply('configmaps/a', 'me', configMap('a'));
    expect(second).toMatchObject({ code: 200, body: first.body });
  });

  it('takes YAML', async () => {
    const yaml = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  a: b\n';
    const made = await admin().call('PATCH', 'configmaps/yaml?fieldManager=me', yaml, 'apply');
    expect(made).toMatchObject({ code: 201, body: { data: { a: 'b' } } });
  });

  it('removes what the applier no longer sets, and nothing else', async () => {
    const env = [
      { name: 'A', value: '1' },
      { name: 'B', value: '2' },
    ];
    const livenessProbe = { httpGet: { path: '/health', port: 8000 } };
    await admin().apply(
      at('prune'),
      'me',
      idle('prune', { env, livenessProbe }, {}, { nodeSelector: { disk: 'ssd' } }),
    );
    await admin().merge(at('prune'), { metadata: { labels: { hand: 'made' } } });
    const after = await admin().apply(at('prune'), 'me', idle('prune', { env: env.slice(0, 1) }));
    expect(container(after).env).toEqual([{ name: 'A', value: '1' }]);
    expect(container(after)['livenessProbe']).toBeUndefined();
    expect(after.body.spec.template.spec.nodeSelector).toBeUndefined();
    expect(after.body.metadata.labels).toMatchObject({ hand: 'made', app: 'faas-worker' });
  });

  it('refuses to take a field from another manager, and takes it with force', async () => {
    await admin().apply('configmaps/fight', 'me', configMap('fight', { mine: '1', both: '1' }));
    const refused = await admin().apply('configmaps/fight', 'you', configMap('fight', { both: '2' }));
    expect(refused).toMatchObject({
      code: 409,
      body: {
        reason: 'Conflict',
        message: 'Apply failed with 1 conflict: conflict with "me": .data.both',
        details: { causes: [{ reason: 'FieldManagerConflict', message: 'conflict with "me"', field: '.data.both' }] },
      },
    });
    const taken = await admin().apply('configmaps/fight', 'you', configMap('fight', { both: '2' }), true);
    expect(taken.body.data).toEqual({ mine: '1', both: '2' });
    const back = await admin().apply('configmaps/fight', 'me', configMap('fight', { mine: '1', both: '1' }));
    expect(back.code).toBe(409);
    const without = await admin().apply('configmaps/fight', 'me', configMap('fight', { mine: '1' }));
    expect(without.body.data).toEqual({ mine: '1', both: '2' });
  });

  it('lets managers agree, and keeps a field until the last of them lets go', async () => {
    await admin().apply('configmaps/agree', 'me', configMap('agree', { a: '1' }));
    const both = await admin().apply('configmaps/agree', 'you', configMap('agree', { a: '1' }));
    expect(managers(both)).toEqual(expect.arrayContaining(['me Apply', 'you Apply']));
    const kept = await admin().apply('configmaps/agree', 'me', configMap('agree', {}));
    expect(kept.body.data).toEqual({ a: '1' });
    const gone = await admin().apply('configmaps/agree', 'you', configMap('agree', {}));
    expect(gone.body.data ?? {}).toEqual({});
  });

  it('heals what was changed by hand only with force, since a hand owns what it changed', async () => {
    await admin().apply(at('heal'), 'me', idle('heal'));
    await admin().merge(`${at('heal')}?fieldManager=hand`, {
      spec: { template: { spec: { terminationGracePeriodSeconds: 77 } } },
    });
    const refused = await admin().apply(at('heal'), 'me', idle('heal'));
    expect(refused.code).toBe(409);
    expect(refused.body.message).toMatch(
      /^Apply failed with 1 conflict: conflict with "hand" using apps\/v1: \.spec\.template\.spec\.terminationGracePeriodSeconds$/,
    );
    const healed = await admin().apply(at('heal'), 'me', idle('heal'), true);
    expect(healed.body.spec.template.spec.terminationGracePeriodSeconds).toBe(5);
  });

  /** The autoscaler makes two of one, whatever the Deployment asked for. */
  const scaledToTwo = async (name: string, manifest: object): Promise<Answer> => {
    await admin().apply(at(name), 'me', manifest);
    await admin().apply(`autoscaling/v2/horizontalpodautoscalers/hpa-${name}`, 'me', autoscaler(name, 2, 3));
    return until('the autoscaler has scaled', async () => {
      const seen = await admin().get(at(name));
      return seen.body.spec.replicas === 2 ? seen : undefined;
    });
  };

  it('leaves alone the replicas that an autoscaler set and nobody applied', async () => {
    const manifest = idle('scaled', {}, { replicas: undefined, paused: true });
    const two = await scaledToTwo('scaled', manifest);
    expect(managers(two)).not.toContain('kube-controller-manager scale');
    expect((await admin().apply(at('scaled'), 'me', manifest, true)).body.spec.replicas).toBe(2);
    const taken = await admin().apply(at('scaled'), 'me', idle('scaled', {}, { replicas: 3, paused: true }));
    expect(taken).toMatchObject({ code: 200, body: { spec: { replicas: 3 } } });
  });

  it('hands replicas that were applied over to the autoscaler that changes them', async () => {
    const manifest = idle('handed', {}, { replicas: 1, paused: true });
    const two = await scaledToTwo('handed', manifest);
    expect(managers(two)).toContain('kube-controller-manager scale');
    expect(two.body.metadata.managedFields).toContainEqual(
      expect.objectContaining({
        manager: 'kube-controller-manager',
        operation: 'Update',
        subresource: 'scale',
        fieldsV1: { 'f:spec': { 'f:replicas': {} } },
      }),
    );
    const refused = await admin().apply(at('handed'), 'me', manifest);
    expect(refused.code).toBe(409);
    expect(refused.body.message).toContain(
      'conflict with "kube-controller-manager" with subresource "scale" using apps/v1: .spec.replicas',
    );
  });

  it('merges lists by their keys: ports by number, mounts by path, volumes by name', async () => {
    await admin().apply(at('lists'), 'me', idle('lists'));
    const other = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'lists' },
      spec: {
        template: {
          spec: {
            volumes: [{ name: 'more', emptyDir: {} }],
            containers: [
              {
                name: 'worker',
                env: [{ name: 'ADDED', value: 'x' }],
                ports: [{ containerPort: 9000 }],
                volumeMounts: [{ name: 'more', mountPath: '/more' }],
              },
            ],
          },
        },
      },
    };
    const added = await admin().apply(at('lists'), 'you', other);
    expect(added.code).toBe(200);
    const { volumes } = added.body.spec.template.spec;
    const names = (list: unknown, key: string) =>
      (list as Record<string, unknown>[]).map((item) => String(item[key])).toSorted();
    expect(names(volumes, 'name')).toEqual(['code', 'more', 'tmp']);
    expect(names(container(added)['volumeMounts'], 'mountPath')).toEqual(['/app/function', '/more', '/tmp']);
    expect(names(container(added)['ports'], 'containerPort')).toEqual(['8000', '9000']);
    expect(names(container(added).env, 'name')).toEqual(['ADDED', 'HANDLER_FUNCTION', 'HOME']);
    const mine = await admin().apply(at('lists'), 'me', idle('lists'));
    expect(names(container(mine).env, 'name')).toEqual(['ADDED', 'HANDLER_FUNCTION', 'HOME']);
  });

  it('holds to a version that the manifest names', async () => {
    const { metadata } = (await admin().apply('configmaps/version', 'me', configMap('version'))).body;
    await admin().merge('configmaps/version', { metadata: { labels: { a: 'b' } } });
    const old = {
      ...configMap('version', { a: 'c' }),
      metadata: { name: 'version', resourceVersion: metadata.resourceVersion },
    };
    expect(await admin().apply('configmaps/version', 'me', old)).toMatchObject({
      code: 409,
      body: { reason: 'Conflict' },
    });
  });

  it('refuses an unknown field, no manager, another name and managedFields', async () => {
    expect(await admin().apply('configmaps/x', 'me', configMap('x', {}, { foo: 1 }))).toMatchObject({
      code: 500,
      body: { message: expect.stringContaining('.foo: field not declared in schema') },
    });
    expect(await admin().call('PATCH', 'configmaps/x', configMap('x'), 'apply')).toMatchObject({
      code: 422,
      body: {
        message: 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
      },
    });
    expect(await admin().apply('configmaps/x', 'me', configMap('y'))).toMatchObject({
      code: 400,
      body: { message: 'the name of the object (y) does not match the name on the URL (x)' },
    });
    const managed = { ...configMap('x'), metadata: { name: 'x', managedFields: [] } };
    expect(await admin().apply('configmaps/x', 'me', managed)).toMatchObject({
      code: 400,
      body: { message: 'metadata.managedFields must be nil' },
    });
    expect(await admin().call('PATCH', 'configmaps/x?fieldManager=me', '{bad: yaml: x', 'apply')).toMatchObject({
      code: 400,
    });
    expect((await admin().get('configmaps/x')).code).toBe(404);
  });

  it('says what it would do with dryRun, and does nothing', async () => {
    const path = 'configmaps/dry?fieldManager=me&dryRun=All';
    expect(await admin().call('PATCH', path, configMap('dry'), 'apply')).toMatchObject({
      code: 201,
      body: { data: { a: 'b' } },
    });
    expect((await admin().get('configmaps/dry')).code).toBe(404);
  });
});
