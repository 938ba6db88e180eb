import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { kindOf } from '#libs/orchestrator/generic-worker.js';
import type { Endpoint, EndpointAddress } from '#libs/orchestrator/workload.js';
import { LABEL } from '#libs/orchestrator-docker/labels.js';
import { addressOf, replicaOf } from '#libs/orchestrator-docker/replica.js';
import { docker, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import { addressOn } from '../docker/support/impostor.js';
import { describeOnDocker, describeOnEachEngine, describeOnEachLocalEngine } from '../support/engines.js';
import { Stage } from '../support/stage.js';
import { Doors, knock } from './support/worker-doors.js';

/** Tells how often it was called, and what it finds in its memory of who called. */
const CURIOUS = `
import gc, json, os
calls = 0

def handle(payload):
    global calls
    calls += 1
    if payload == "count":
        return calls
    gates = [one for one in gc.get_objects() if type(one).__name__ == "Gate"]
    return {"tokens": [one._known.decode() for one in gates], "environment": dict(os.environ)}
`;
const SLOWLY_MS = 400;
const MISDIRECTED = /"worker_misdirected"/;

describeOnEachEngine('A worker that its neighbours have found', (engine) => {
  const stage = Stage.on(engine);
  let doors: Doors;
  let mine: string;
  let its: string;
  let endpoint: Endpoint;
  const calls = async () => ((await stage.manager.call(mine, 'count')).json() as { result: number }).result;

  beforeAll(async () => {
    doors = await Doors.of(stage.databaseUrl);
    [{ id: mine }, { id: its }] = await Promise.all([stage.manager.add(CURIOUS), stage.manager.add(CURIOUS)]);
    endpoint = await doors.endpoint(mine);
  });
  afterAll(() => doors.close());

  it('runs nothing for them, whatever they say of themselves, and lets them wait', async () => {
    const before = await calls();
    const disguises: Record<string, string>[] = [
      {},
      { 'X-Faas-Function': mine },
      { 'X-Faas-Function': mine, 'X-Faas-Token': 'guessed' },
      { 'X-Faas-Function': mine, 'X-Faas-Token': endpoint.credential! },
      { 'X-Faas-Function': mine, 'X-Faas-Token': doors.token(await doors.endpoint(its)) },
      { ...doors.headers(endpoint), Origin: 'http://localhost:3000' },
    ];
    const replies = await Promise.all(disguises.map((headers) => knock(endpoint.address, { headers })));
    for (const reply of replies) {
      expect(reply).toMatchObject({ status: 403, text: expect.stringMatching(MISDIRECTED) as string });
      expect(reply.ms).toBeGreaterThan(SLOWLY_MS);
    }
    expect(await calls()).toBe(before + 1);
  });

  it('tells them that it is well, and its managers the rest', async () => {
    const ask = async (headers: Record<string, string>) => {
      const { status, text } = await knock(endpoint.address, { method: 'GET', path: '/health', body: '', headers });
      return { status, keys: Object.keys(JSON.parse(text) as object).toSorted() };
    };
    expect(await ask({})).toEqual({ status: 200, keys: ['status', 'timestamp'] });
    expect(await ask(doors.headers(endpoint))).toEqual({ status: 200, keys: ['status', 'timestamp', 'worker'] });
  });

  it('lets its handler find its own token at most, which opens no other replica', async () => {
    const told = (await stage.manager.call(mine, 'tell')).json() as {
      result: { tokens: string[]; environment: Record<string, string> };
    };
    const { tokens, environment } = told.result;
    expect(new Set(tokens)).toEqual(new Set([doors.token(endpoint)]));
    expect(Object.values(environment).join('\n')).not.toContain(tokens[0]);
    const other = await doors.endpoint(its);
    const headers = { 'X-Faas-Token': tokens[0]!, 'X-Faas-Function': its };
    expect((await knock(other.address, { headers })).status).toBe(403);
    expect((await knock(endpoint.address, { headers: { 'X-Faas-Token': tokens[0]! } })).status).toBe(200);
  });

  it('has its token in no log of a manager', () => {
    expect(stage.manager.log).not.toContain(doors.token(endpoint));
  });

  it('serves every manager that comes after, the same replica', async () => {
    const before = await calls();
    const next = await stage.start();
    expect((await next.call(mine, 'count')).text).toBe(`{"result":${before + 1}}`);
    await next.stop();
    expect(await doors.endpoint(mine)).toEqual(endpoint);
  });

  it('is called again once a row that lacks what its token is made of has been put right', async () => {
    await doors.forgetCredential(mine);
    await vi.waitFor(
      async () => {
        expect((await stage.manager.call(mine, 'count')).status).toBe(200);
        expect(await doors.endpoint(mine)).toEqual(endpoint);
      },
      { timeout: 30_000, interval: 200 },
    );
  });
});

describeOnDocker('A worker’s container that its neighbours have found', (engine) => {
  const stage = Stage.on(engine);

  it('shows whoever may inspect it no token, and answers no container of another network', async () => {
    const { id, container_id } = await stage.manager.add(CURIOUS);
    const doors = await Doors.of(stage.databaseUrl);
    const endpoint = await doors.endpoint(id);
    const token = doors.token(endpoint);
    await doors.close();
    expect(JSON.stringify(await docker.getContainer(container_id).inspect())).not.toContain(token);
    const address = await addressOn(container_id, stage.room.env['DOCKER_NETWORK']!);
    expect(await fromAnotherNetwork(address)).not.toContain('reached');
    expect(await fromAnotherNetwork(address, 'host')).toContain('reached: 403');
    expect((await stage.manager.call(id, 'count')).text).toBe('{"result":1}');
  });
});

/** What a container hears that posts to a worker. */
async function fromAnotherNetwork(address: string, network = 'bridge'): Promise<string> {
  const program = [
    'import urllib.request as r, urllib.error as e',
    'try:',
    `  print("reached:", r.urlopen("http://${address}:8000/", b'{"payload": "count"}', timeout=5).status)`,
    'except e.HTTPError as refusal: print("reached:", refusal.code)',
    'except OSError as fault: print(fault)',
  ].join('\n');
  const container = await docker.createContainer({
    Image: WORKER_IMAGE,
    Entrypoint: ['python3', '-c', program],
    HostConfig: { NetworkMode: network },
  });
  try {
    await container.start();
    await container.wait();
    return (await container.logs({ stdout: true, stderr: true })).toString();
  } finally {
    await container.remove({ force: true, v: true });
  }
}

describeOnEachLocalEngine('A worker without a function that its neighbours have found', (engine) => {
  const stage = Stage.on(engine, { WARM_POOL_SIZE: '1' });

  it('is not ended by wrong tokens, nor kept by anybody but its manager, and then gets its function', async () => {
    const address = await vi.waitFor(() => waiting(engine.name, stage), { timeout: 30_000, interval: 100 });
    const attempts = Array.from({ length: 6 }, () =>
      knock(address, { path: '/specialise', headers: { Authorization: 'Bearer guessed' } }),
    );
    for (const reply of await Promise.all(attempts)) {
      expect(reply.status).toBe(403);
      expect(reply.ms).toBeGreaterThan(SLOWLY_MS);
    }
    expect((await knock(address)).status).toBe(403);
    const renewal = { method: 'GET', path: '/health', body: '', headers: { 'X-Faas-Lease': 'renew' } };
    expect((await knock(address, renewal)).status).toBe(403);
    expect(await kindOf(address, false)).toBe('generic');
    const { id } = await stage.manager.add(CURIOUS);
    expect((await stage.manager.call(id, 'count')).text).toBe('{"result":1}');
    const doors = await Doors.of(stage.databaseUrl);
    const endpoint = await doors.endpoint(id);
    await doors.close();
    if (endpoint.address.kind === 'tcp') expect(endpoint.address).toEqual(address);
    // A process takes its folder along when it gets its function.
    else
      expect(endpoint.address.path.split('/').slice(-3)).toEqual(
        (address as { path: string }).path.split('/').slice(-3),
      );
  });
});

/** Where the one that waits answers; throws while there is none. */
async function waiting(engine: string, stage: Stage): Promise<EndpointAddress> {
  const found = engine === 'docker' ? await containers(stage) : await sockets(stage);
  for (const address of found) if ((await kindOf(address, false, 500)) === 'generic') return address;
  throw new Error('No worker waits for a function.');
}

async function containers(stage: Stage): Promise<EndpointAddress[]> {
  const network = stage.room.env['DOCKER_NETWORK']!;
  const all = await docker.listContainers({ filters: { network: [network], label: [LABEL.pool] } });
  return all.flatMap((one) => addressOf(replicaOf(one), network, 'address') ?? []);
}

async function sockets(stage: Stage): Promise<EndpointAddress[]> {
  const folder = stage.room.env['PROCESS_RUNTIME_DIR']!;
  const names = await readdir(folder, { recursive: true });
  return names.filter((name) => name.endsWith('/w/s')).map((name) => ({ kind: 'unix', path: `${folder}/${name}` }));
}
