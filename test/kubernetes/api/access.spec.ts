import { expect, it } from 'vitest';
import { configMap, deployment } from './support/manifests.js';
import { Caller, configOf, describeOnFake } from './support/targets.js';

describeOnFake('access to the small Kubernetes', (target) => {
  const manager = () => new Caller(configOf(target().fake!.kubeconfig('manager')), target().fake!.namespace);
  const user = 'system:serviceaccount:service-faas:faas-manager';

  it('lets nobody in without a token that it gave', async () => {
    const config = configOf(
      target()
        .fake!.kubeconfig('manager')
        .replace(/token: .*/, 'token: wrong'),
    );
    expect(await new Caller(config, 'default').get('configmaps')).toMatchObject({
      code: 401,
      body: { kind: 'Status', reason: 'Unauthorized', message: 'Unauthorized' },
    });
    const plain = await fetch(`${target().fake!.url}/readyz`);
    expect(plain.status).toBe(401);
  });

  it('holds the manager to its Role and says so in the words of Kubernetes', async () => {
    const { namespace } = target().fake!;
    expect((await manager().apply('configmaps/mine', 'faas', configMap('mine'))).code).toBe(201);
    expect(await manager().get('secrets')).toMatchObject({
      code: 403,
      body: {
        reason: 'Forbidden',
        message: `secrets is forbidden: User "${user}" cannot list resource "secrets" in API group "" in the namespace "${namespace}"`,
        details: { kind: 'secrets' },
      },
    });
    expect((await manager().get('apps/v1/deployments/a/scale')).body.message).toBe(
      `deployments.apps "a" is forbidden: User "${user}" cannot get resource "deployments/scale" in API group "apps" in the namespace "${namespace}"`,
    );
    expect((await manager().get('/api/v1/namespaces/default/configmaps')).code).toBe(403);
    expect((await manager().get('/api/v1/configmaps')).body.message).toBe(
      `configmaps is forbidden: User "${user}" cannot list resource "configmaps" in API group "" at the cluster scope`,
    );
    expect((await manager().get('/version')).body).toMatchObject({ major: '1', minor: '36' });
    expect(await manager().get('/readyz')).toMatchObject({ code: 200, body: 'ok' });
    expect((await manager().get('/metrics')).body.message).toBe(`forbidden: User "${user}" cannot get path "/metrics"`);
  });

  it('needs the right to create for applying what is not there', async () => {
    const slice = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name: 'x' } };
    expect((await manager().apply('discovery.k8s.io/v1/endpointslices/x', 'faas', slice)).code).toBe(403);
    const uses = await target().fake!.controls.uses();
    expect(uses).toContainEqual({ verb: 'patch', group: '', resource: 'configmaps', allowed: true });
    expect(uses).toContainEqual({ verb: 'create', group: '', resource: 'configmaps', allowed: true });
    expect(uses).toContainEqual({
      verb: 'patch',
      group: 'discovery.k8s.io',
      resource: 'endpointslices',
      allowed: false,
    });
  });

  it('tells what the Role grants, so that a test can find what is spare', async () => {
    const grants = await target().fake!.controls.grants();
    expect(grants).toContainEqual({ verb: 'watch', group: 'discovery.k8s.io', resource: 'endpointslices' });
    const uses = (await target().fake!.controls.uses()).filter(({ allowed }) => allowed);
    for (const { verb, group, resource } of uses) expect(grants).toContainEqual({ verb, group, resource });
  });

  it('refuses through a webhook until that is taken away', async () => {
    const { controls } = target().fake!;
    const message = 'no unsigned images';
    await controls.refuse({
      name: 'policy.example.com',
      resource: 'deployments',
      operations: ['CREATE', 'UPDATE'],
      message,
    });
    const manifest = deployment(target(), 'hooked', {}, { replicas: 0 });
    expect(await manager().apply('apps/v1/deployments/hooked', 'faas', manifest)).toMatchObject({
      code: 400,
      body: { message: 'admission webhook "policy.example.com" denied the request: no unsigned images' },
    });
    await controls.admitAll();
    expect((await manager().apply('apps/v1/deployments/hooked', 'faas', manifest)).code).toBe(201);
  });

  it('forgets a token that was revoked', async () => {
    await target().fake!.controls.revoke('manager');
    expect((await manager().get('configmaps')).code).toBe(401);
    expect((await target().admin.get('configmaps')).code).toBe(200);
  });
});
