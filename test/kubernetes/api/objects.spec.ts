import { expect, it } from 'vitest';
import { autoscaler, configMap, deployment, service } from './support/manifests.js';
import { describeOnClusters } from './support/targets.js';

describeOnClusters('objects of the Kubernetes API', (target) => {
  const admin = () => target().admin;

  it('keeps what was created and stamps it', async () => {
    const made = await admin().post('configmaps?fieldManager=me', configMap('kept'));
    expect(made).toMatchObject({ code: 201, body: { kind: 'ConfigMap', data: { a: 'b' } } });
    const { metadata } = made.body;
    expect(metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(metadata.resourceVersion).toMatch(/^\d+$/);
    expect(metadata.creationTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(metadata.managedFields).toMatchObject([
      {
        manager: 'me',
        operation: 'Update',
        apiVersion: 'v1',
        fieldsType: 'FieldsV1',
        fieldsV1: { 'f:data': { 'f:a': {} } },
      },
    ]);
    expect((await admin().get('configmaps/kept')).body).toEqual(made.body);
  });

  it('answers 404, 409 and Status objects as clients expect them', async () => {
    expect(await admin().get('configmaps/none')).toMatchObject({
      code: 404,
      body: {
        kind: 'Status',
        apiVersion: 'v1',
        status: 'Failure',
        message: 'configmaps "none" not found',
        reason: 'NotFound',
        details: { name: 'none', kind: 'configmaps' },
        code: 404,
      },
    });
    await admin().post('configmaps', configMap('twice'));
    expect(await admin().post('configmaps', configMap('twice'))).toMatchObject({
      code: 409,
      body: { reason: 'AlreadyExists', message: 'configmaps "twice" already exists' },
    });
    expect(await admin().get('apps/v1/deployments/none')).toMatchObject({
      code: 404,
      body: { message: 'deployments.apps "none" not found', details: { group: 'apps', kind: 'deployments' } },
    });
    expect(await admin().get('nothings')).toMatchObject({ code: 404, body: { reason: 'NotFound' } });
  });

  it('refuses to overwrite a newer version, and takes the latest', async () => {
    const first = (await admin().post('configmaps', configMap('versions'))).body;
    const second = await admin().merge('configmaps/versions', { data: { a: 'c' } });
    expect(Number(second.body.metadata.resourceVersion)).toBeGreaterThan(Number(first.metadata.resourceVersion));
    const stale = await admin().put('configmaps/versions', { ...first, data: { a: 'd' } });
    expect(stale).toMatchObject({
      code: 409,
      body: {
        reason: 'Conflict',
        message:
          'Operation cannot be fulfilled on configmaps "versions": the object has been modified; please apply your changes to the latest version and try again',
      },
    });
    expect((await admin().put('configmaps/versions', { ...second.body, data: { a: 'd' } })).code).toBe(200);
  });

  it('counts no version where nothing changes', async () => {
    const first = (await admin().post('configmaps?fieldManager=me', configMap('same'))).body;
    const again = await admin().call('PATCH', 'configmaps/same?fieldManager=me', { data: { a: 'b' } }, 'merge');
    expect(again.body.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
  });

  it('lists by labels and fields, in pages, with the version of the whole', async () => {
    for (const [name, tier] of [
      ['p1', 'x'],
      ['p2', 'x'],
      ['p3', 'y'],
    ] as const) {
      await admin().post('configmaps', { ...configMap(name), metadata: { name, labels: { pages: 'yes', tier } } });
    }
    const names = (answer: { body: { items: { metadata: { name: string } }[] } }) =>
      answer.body.items.map(({ metadata }) => metadata.name);
    expect(names(await admin().get('configmaps?labelSelector=pages%3Dyes,tier!%3Dy'))).toEqual(['p1', 'p2']);
    expect(names(await admin().get('configmaps?labelSelector=tier%20in%20(y,z)'))).toEqual(['p3']);
    expect(names(await admin().get('configmaps?fieldSelector=metadata.name%3Dp2'))).toEqual(['p2']);
    const page = await admin().get('configmaps?labelSelector=pages&limit=2');
    expect(names(page)).toEqual(['p1', 'p2']);
    const rest = await admin().get(`configmaps?labelSelector=pages&limit=2&continue=${page.body.metadata.continue}`);
    expect(names(rest)).toEqual(['p3']);
    expect(rest.body).toMatchObject({
      kind: 'ConfigMapList',
      metadata: { resourceVersion: expect.stringMatching(/^\d+$/) },
    });
    expect(rest.body.items[0].kind).toBeUndefined();
    expect((await admin().get('configmaps?fieldSelector=data.a%3Db')).code).toBe(400);
  });

  it('deletes only the object that the caller has seen', async () => {
    const { metadata } = (await admin().post('configmaps', configMap('seen'))).body;
    const other = { preconditions: { uid: '00000000-0000-0000-0000-000000000000' } };
    expect(await admin().delete('configmaps/seen', other)).toMatchObject({ code: 409, body: { reason: 'Conflict' } });
    expect(await admin().delete('configmaps/seen', { preconditions: { uid: metadata.uid } })).toMatchObject({
      code: 200,
      body: { kind: 'Status', status: 'Success', details: { name: 'seen', kind: 'configmaps', uid: metadata.uid } },
    });
    expect((await admin().delete('configmaps/seen')).code).toBe(404);
  });

  it('deletes a selection at once', async () => {
    for (const name of ['c1', 'c2']) {
      await admin().post('configmaps', { ...configMap(name), metadata: { name, labels: { set: 'c' } } });
    }
    expect((await admin().delete('configmaps?labelSelector=set%3Dc')).code).toBe(200);
    expect((await admin().get('configmaps?labelSelector=set%3Dc')).body.items).toEqual([]);
  });

  it('knows no namespace that is not there', async () => {
    const path = '/api/v1/namespaces/is-not-there/configmaps';
    const refusal = {
      code: 404,
      body: { message: 'namespaces "is-not-there" not found', details: { kind: 'namespaces' } },
    };
    expect(await admin().post(path, configMap('x'))).toMatchObject(refusal);
    expect(await admin().apply(`${path}/x`, 'me', configMap('x'))).toMatchObject(refusal);
  });

  it('takes nothing into a namespace that is being terminated, until that is gone', async () => {
    const name = `${admin().namespace}-ending`;
    const at = `/api/v1/namespaces/${name}`;
    await admin().post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    const held = { ...configMap('held'), metadata: { name: 'held', finalizers: ['example.com/held'] } };
    expect((await admin().post(`${at}/configmaps`, held)).code).toBe(201);
    await admin().delete(at);
    expect((await admin().get(at)).body.status.phase).toBe('Terminating');
    expect(await admin().post(`${at}/configmaps`, configMap('late'))).toMatchObject({
      code: 403,
      body: {
        reason: 'Forbidden',
        message: `configmaps "late" is forbidden: unable to create new content in namespace ${name} because it is being terminated`,
        details: { causes: [{ reason: 'NamespaceTerminating' }] },
      },
    });
    await admin().merge(`${at}/configmaps/held`, { metadata: { finalizers: null } });
    await expect.poll(async () => (await admin().get(at)).code, { timeout: 30_000 }).toBe(404);
  });

  it('fills in what a Deployment, a Service and an autoscaler leave out', async () => {
    const made = await admin().post('apps/v1/deployments', deployment(target(), 'defaults', {}, { replicas: 0 }));
    expect(made.body).toMatchObject({
      metadata: { generation: 1 },
      spec: {
        strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '25%', maxUnavailable: '25%' } },
        revisionHistoryLimit: 10,
        progressDeadlineSeconds: 600,
        template: {
          spec: {
            restartPolicy: 'Always',
            dnsPolicy: 'ClusterFirst',
            schedulerName: 'default-scheduler',
            volumes: [{ configMap: { defaultMode: 420 } }, {}],
            containers: [
              {
                ports: [{ protocol: 'TCP' }],
                terminationMessagePath: '/dev/termination-log',
                readinessProbe: {
                  timeoutSeconds: 1,
                  successThreshold: 1,
                  failureThreshold: 3,
                  httpGet: { scheme: 'HTTP' },
                },
              },
            ],
          },
        },
      },
    });
    expect((await admin().post('services', service('defaults'))).body.spec).toMatchObject({
      type: 'ClusterIP',
      sessionAffinity: 'None',
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      ports: [{ protocol: 'TCP' }],
    });
    const behavior = {
      scaleUp: { stabilizationWindowSeconds: 30, policies: [{ type: 'Pods', value: 2, periodSeconds: 15 }] },
    };
    const scaler = autoscaler('defaults', 1, 3);
    const stored = await admin().post('autoscaling/v2/horizontalpodautoscalers', {
      ...scaler,
      spec: { ...scaler.spec, behavior },
    });
    expect(stored.body.spec.behavior).toEqual({
      scaleUp: { ...behavior.scaleUp, selectPolicy: 'Max' },
      scaleDown: { selectPolicy: 'Max', policies: [{ type: 'Percent', value: 100, periodSeconds: 15 }] },
    });
  });
});
