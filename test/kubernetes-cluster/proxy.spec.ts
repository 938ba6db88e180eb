import { RbacAuthorizationV1Api } from '@kubernetes/client-node';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { expectProblem } from '../support/http.js';
import { SLEEPY } from '../support/handlers.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { TELLTALE } from '../kubernetes/support/handlers.js';
import { type Namespace, namespaceEngine } from './support/room.js';

describe("calls through the API server's proxy [kubernetes]", () => {
  let room: Namespace;
  let manager: TestManager;
  const stage = Stage.on(namespaceEngine((opened) => (room = opened)));
  // Found at boot: outside the cluster there is no other way that is sure.
  const outside = { KUBERNETES_REACH: 'auto' };

  beforeAll(async () => {
    await stage.manager.stop();
    const { admin, namespace } = room.cluster;
    const rbac = admin.makeApiClient(RbacAuthorizationV1Api);
    const metadata = { name: 'faas-outside' };
    const rules = [{ apiGroups: [''], resources: ['pods/proxy'], verbs: ['get', 'create'] }];
    await rbac.createNamespacedRole({ namespace, body: { metadata, rules } });
    const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: metadata.name };
    const subjects = [{ kind: 'ServiceAccount', name: 'faas-manager', namespace }];
    await rbac.createNamespacedRoleBinding({ namespace, body: { metadata, roleRef, subjects } });
    manager = await stage.start(outside);
  });

  it('works with twenty at once, each with its own answer', async () => {
    expect(manager.log).toMatch(/"reach":"proxy"/);
    const { id } = await manager.add('async def handle(payload):\n    return payload * 2\n');
    const payloads = Array.from({ length: 20 }, (_, index) => `${index}é${'x'.repeat(index * 1000)}`);
    const answers = await Promise.all(payloads.map((payload) => manager.call(id, payload)));
    expect(answers.map((answer) => answer.json())).toEqual(payloads.map((payload) => ({ result: payload + payload })));
    expect((await manager.remove(id)).status).toBe(204);
  });

  it('runs twenty beside each other, and not one after the other', async () => {
    const { id } = await manager.add(SLEEPY);
    await manager.call(id, 'sleep 0');
    const began = performance.now();
    const answers = await Promise.all(Array.from({ length: 20 }, () => manager.call(id, 'sleep 1')));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(performance.now() - began).toBeLessThan(10_000);
    expect((await manager.remove(id)).status).toBe(204);
  });

  it('tells what went wrong as it is told without a proxy', async () => {
    const code =
      'import os\n\ndef handle(payload):\n    if payload == "exit":\n        os._exit(7)\n    raise ValueError(payload)\n';
    const { id } = await manager.add(code);
    expect(expectProblem(await manager.call(id, 'so it is'), 500, 'handler_error').detail).toBe('ValueError: so it is');
    const crash = expectProblem(await manager.call(id, 'exit'), 502, 'worker_crashed');
    expect(crash.detail).toContain('7');
    expectProblem(await manager.call(id, 'again'), 500, 'handler_error');
    expect((await manager.remove(id)).status).toBe(204);
  });

  it('ends the handler when its caller disconnects, and at its time limit', async () => {
    const narrow = await stage.start({ ...outside, WORKER_CONCURRENCY: '1', QUEUE_PER_FUNCTION: '0' });
    const { id } = await narrow.add(SLEEPY, { timeoutMs: 30_000 });
    const leaving = new AbortController();
    const abandoned = narrow.call(id, 'sleep 25', { signal: leaving.signal }).catch((error: Error) => error.name);
    await vi.waitFor(async () => expect((await narrow.call(id, 'sleep 0')).status).toBe(429));
    leaving.abort();
    expect(await abandoned).toBe('AbortError');
    await vi.waitFor(async () => expect((await narrow.call(id, 'sleep 0')).status).toBe(200), { timeout: 5_000 });
    const hasty = await narrow.add(SLEEPY, { timeoutMs: 500 });
    expectProblem(await narrow.call(hasty.id, 'sleep 20'), 504, 'handler_timeout');
    await vi.waitFor(async () => expect((await narrow.call(hasty.id, 'sleep 0')).status).toBe(200), { timeout: 5_000 });
    for (const added of [id, hasty.id]) expect((await narrow.remove(added)).status).toBe(204);
    await narrow.stop();
  });

  it('costs the calls that a killed pod had begun a 502, and none of those that come after', async () => {
    const { id } = await manager.add(TELLTALE);
    const { text: former } = await manager.call(id, '');
    const begun = manager.call(id, 'sleep 20');
    await manager.call(id, '');
    await room.cluster.endPods(id);
    const later = await Promise.all(Array.from({ length: 5 }, () => manager.call(id, 'sleep 0.1')));
    expect(later.map(({ status }) => status)).toEqual(later.map(() => 200));
    expect(later.map(({ text }) => text)).not.toContain(former);
    expectProblem(await begun, 502, 'worker_crashed');
    expect((await manager.remove(id)).status).toBe(204);
  });
});
