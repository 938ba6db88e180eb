import type { ServerResponse } from 'node:http';
import type { KubernetesObject } from '@kubernetes/client-node';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Informer } from './informer.js';
import { AUTOSCALER } from './kinds.js';
import { KubeApi } from './kube-api.js';
import { FUNCTION } from './testing/objects.js';
import { json, ScriptedApi } from './testing/scripted-api.js';

type Scaler = KubernetesObject & { spec?: object; status?: object };

let server: ScriptedApi;
let watches: ServerResponse[];
let listed: Scaler[];
let changes: string[];
let faults: string[];
let informer: Informer<Scaler>;

beforeEach(async () => {
  [watches, listed, changes, faults] = [[], [], [], []];
  server = await ScriptedApi.open(({ url }, response) => {
    if (!url.searchParams.has('watch'))
      return json(response, 200, { metadata: { resourceVersion: '10' }, items: listed });
    response.writeHead(200).flushHeaders();
    watches.push(response);
  });
  const events = {
    changed: (id: string) => void changes.push(id),
    cutOff: (_kind: unknown, reason: string) => void faults.push(reason),
    resumed: () => undefined,
  };
  const api = new KubeApi(server.access, 'functions');
  informer = new Informer(server.access, api, AUTOSCALER, 'me', events, { statusIsNews: false });
});

afterEach(() => {
  informer.close();
  server.close();
});

function scaler(version: number, more: Partial<Scaler> = {}, uid = 'one'): Scaler {
  const metadata = { name: 'a', uid, resourceVersion: String(version), labels: { 'faas.function': FUNCTION } };
  return { metadata, spec: { maxReplicas: 20 }, ...more };
}

const tell = (type: string, object: unknown) => watches.at(-1)!.write(`${JSON.stringify({ type, object })}\n`);
const known = () => informer.get(FUNCTION, 'a')?.metadata?.resourceVersion;

async function watching(count = 1): Promise<void> {
  await vi.waitFor(() => expect(watches).toHaveLength(count), { timeout: 10_000 });
}

describe('Informer', () => {
  it('tells of what changed, and nothing of what an autoscaler measured', async () => {
    informer.start();
    await watching();
    tell('ADDED', scaler(11));
    await vi.waitFor(() => expect(known()).toBe('11'));
    expect(changes).toEqual([FUNCTION]);
    tell('MODIFIED', scaler(12, { status: { currentReplicas: 3 } }));
    await vi.waitFor(() => expect(known()).toBe('12'));
    expect(changes).toHaveLength(1);
    tell('MODIFIED', scaler(13, { spec: { maxReplicas: 1 } }));
    await vi.waitFor(() => expect(changes).toHaveLength(2));
  });

  it('isn’t taken in by a late answer about an object that is gone, and takes its successor', async () => {
    informer.start();
    await watching();
    tell('ADDED', scaler(11));
    tell('DELETED', scaler(12));
    await vi.waitFor(() => expect(changes).toHaveLength(2));
    informer.learn(scaler(11));
    expect(informer.of(FUNCTION)).toEqual([]);
    informer.learn(scaler(13, {}, 'two'));
    expect(known()).toBe('13');
  });

  it('keeps the newer of what it was told and what a call was answered', async () => {
    informer.learn(scaler(12));
    informer.learn(scaler(11));
    expect(known()).toBe('12');
    informer.learn(scaler(100));
    expect(known()).toBe('100');
  });

  it('outlives lines that are no events', async () => {
    informer.start();
    await watching();
    for (const line of ['{}', 'null', '<html>', '{"type":"ADDED"}', '{"type":"ADDED","object":{"metadata":null}}']) {
      watches[0]!.write(`${line}\n`);
    }
    tell('ERROR', null);
    tell('ADDED', scaler(11));
    await vi.waitFor(() => expect(known()).toBe('11'));
    expect(faults).toEqual([]);
  });

  it('says that it is behind while credentials can’t be had, and goes on when they can', async () => {
    informer.start();
    await watching();
    await informer.tried;
    const apply = vi.spyOn(server.access, 'applySecurityAuthentication');
    apply.mockRejectedValue(new Error('the login program failed'));
    watches[0]!.destroy();
    await vi.waitFor(() => expect(informer.behind?.message).toContain('the login program failed'), { timeout: 10_000 });
    apply.mockRestore();
    listed = [scaler(20)];
    await watching(2);
    await vi.waitFor(() => expect(informer.behind).toBeUndefined());
    expect(known()).toBe('20');
  });
});
