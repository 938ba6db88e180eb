import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import type { FunctionDetailDto, RevisionDto, TrafficDto } from '../client/index.js';
import { expectAsDocumented } from '../support/document.js';
import { describeOnAnyEngine, describeOnEachEngine, describeOnProcesses } from '../support/engines.js';
import { type Answer, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

const answering = (text: string) => `def handle(payload):\n    return ${JSON.stringify(text)}\n`;

const halves = [
  { revision: 1, percent: 50 },
  { revision: 2, percent: 50 },
];

function send(manager: TestManager, method: string, path: string, body: unknown, headers: Record<string, string> = {}) {
  return manager.send(`/functions/${path}`, {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

const execute = (manager: TestManager, path: string, headers: Record<string, string> = {}) => {
  const [id, query = ''] = path.split('?');
  return send(manager, 'POST', `${id}/execute${query && `?${query}`}`, { payload: '' }, headers);
};

async function revised(manager: TestManager, id: string, members: object): Promise<RevisionDto> {
  const answer = await send(manager, 'POST', `${id}/revisions`, members);
  expect(answer.status, answer.text).toBe(201);
  return answer.json() as RevisionDto;
}

async function divided(manager: TestManager, id: string, targets: readonly object[]): Promise<TrafficDto> {
  const answer = await send(manager, 'PUT', `${id}/traffic`, { targets });
  expect(answer.status, answer.text).toBe(200);
  return answer.json() as TrafficDto;
}

/** What answered, which the header must say too. */
function answered(answer: Answer): string {
  expect(answer.status, answer.text).toBe(200);
  const { result } = answer.json() as { result: string };
  expect(answer.headers['x-faas-revision']).toBe(result.replace(/\D/g, ''));
  return result;
}

async function counted(manager: TestManager, id: string, calls: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (let done = 0; done < calls; done += 20) {
    const answers = await Promise.all(Array.from({ length: Math.min(20, calls - done) }, () => execute(manager, id)));
    for (const answer of answers) counts[answered(answer)] = (counts[answered(answer)] ?? 0) + 1;
  }
  return counts;
}

describeOnEachEngine('traffic of a function', (engine) => {
  const stage = Stage.on(engine);
  /** A function of two revisions, of which the second has all calls. */
  const made = async () => {
    const { id } = await stage.manager.add(answering('r1'));
    await revised(stage.manager, id, { code: answering('r2') });
    return id;
  };
  const traffic = async (id: string) => (await stage.manager.send(`/functions/${id}/traffic`)).json() as TrafficDto;

  it('is all for the newest revision until it is divided, and then as said', { timeout: 180_000 }, async () => {
    const { manager } = stage;
    const id = await made();
    const before = await traffic(id);
    expect(before).toMatchObject({ mode: 'auto', targets: [{ revision: 2, percent: 100, tag: null }], pending: null });
    expectAsDocumented(before, 'TrafficDto');
    expect(answered(await execute(manager, id))).toBe('r2');

    const set = await divided(manager, id, [
      { revision: 1, percent: 80 },
      { revision: 2, percent: 20, tag: 'canary' },
    ]);
    expect(set).toMatchObject({ mode: 'targets', pending: null });
    expectAsDocumented(set, 'TrafficDto');
    expect(set.targets.map(({ ready_replicas: ready }) => ready > 0)).toEqual([true, true]);
    const counts = await counted(manager, id, 200);
    expect(Math.abs((counts['r1'] ?? 0) - 160)).toBeLessThanOrEqual(2);
    expect(Object.values(counts).reduce((sum, count) => sum + count)).toBe(200);

    const automatic = await send(manager, 'PUT', `${id}/traffic`, { mode: 'auto' });
    expect(automatic.json()).toMatchObject({ mode: 'auto', targets: [{ revision: 2, percent: 100 }] });
    expect(await counted(manager, id, 20)).toEqual({ r2: 20 });
    await manager.remove(id);
    expect(await stage.room.workers()).toEqual([]);
  });

  it('goes where a call names a revision, a tag, or the key that it had before', { timeout: 180_000 }, async () => {
    const { manager } = stage;
    const id = await made();
    await divided(manager, id, [
      { revision: 1, percent: 50 },
      { revision: 2, percent: 50 },
    ]);
    for (const revision of [1, 2]) {
      expect(answered(await execute(manager, `${id}?revision=${revision}`))).toBe(`r${revision}`);
    }
    const keys = Array.from({ length: 20 }, (_, index) => `customer ${index}`);
    const byKey = async () => {
      const answers = await Promise.all(keys.map((key) => execute(manager, id, { 'X-Faas-Sticky': key })));
      return answers.map(answered);
    };
    const first = await byKey();
    expect(new Set(first).size).toBe(2);
    expect(await byKey()).toEqual(first);

    await divided(manager, id, [
      { revision: 2, percent: 100 },
      { revision: 1, percent: 0, tag: 'former' },
    ]);
    expect(await counted(manager, id, 20)).toEqual({ r2: 20 });
    expect(answered(await execute(manager, `${id}?tag=former`))).toBe('r1');
    expectProblem(await execute(manager, `${id}?tag=none`), 409, 'revision_without_traffic');
    expectProblem(await execute(manager, `${id}?revision=7`), 409, 'revision_without_traffic');
    expectProblem(await execute(manager, `${id}?revision=x`), 400, 'invalid_request');
    const both = expectProblem(await execute(manager, `${id}?revision=2&tag=former`), 400, 'invalid_request');
    expect(both).toMatchObject({ detail: 'Send revision or tag, not both.', parameter: 'tag' });
    await manager.remove(id);
  });

  it(
    'stays as it is when a revision can’t serve, and a new one waits for its share',
    { timeout: 180_000 },
    async () => {
      const { manager } = stage;
      const id = await made();
      await divided(manager, id, [{ revision: 1, percent: 100 }]);
      expect(await counted(manager, id, 20)).toEqual({ r1: 20 });
      const three = await revised(manager, id, { code: answering('r3') });
      expect(three).toMatchObject({ revision: 3, status: 'ready', serving: false });
      expect(await counted(manager, id, 20)).toEqual({ r1: 20 });
      const broken = await send(manager, 'POST', `${id}/revisions`, { code: 'def handle(:\n' });
      expectProblem(broken, 422, 'handler_not_loadable');
      const failing = await send(manager, 'PUT', `${id}/traffic`, {
        targets: [
          { revision: 3, percent: 50 },
          { revision: 4, percent: 50 },
        ],
      });
      expectProblem(failing, 422, 'handler_not_loadable');
      expect(await counted(manager, id, 20)).toEqual({ r1: 20 });
      expect(await traffic(id)).toMatchObject({
        targets: [{ revision: 1, percent: 100 }],
        pending: { targets: [{ revision: 3 }, { revision: 4 }], error: { code: 'handler_not_loadable' } },
      });
      const back = await send(manager, 'POST', `${id}/rollback`, { revision: 3 });
      expect(back.status, back.text).toBe(200);
      expect(await counted(manager, id, 20)).toEqual({ r3: 20 });
      expectProblem(await send(manager, 'POST', `${id}/rollback`, {}), 400, 'invalid_update');
      expectProblem(await manager.send(`/functions/${id}/revisions/3`, { method: 'DELETE' }), 409, 'revision_in_use');
      await manager.remove(id);
      expect(await stage.room.workers()).toEqual([]);
    },
  );

  it('sleeps and wakes revision by revision, and lets those go that have none', { timeout: 180_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('r1'), { idle_timeout_ms: 1_000 });
    await revised(manager, id, { code: answering('r2') });
    await divided(manager, id, [
      { revision: 1, percent: 50 },
      { revision: 2, percent: 50 },
    ]);
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 60_000, interval: 200 });
    expect((await traffic(id)).targets.map(({ status }) => status)).toEqual(['idle', 'idle']);
    expect(answered(await execute(manager, `${id}?revision=1`))).toBe('r1');
    expect(answered(await execute(manager, `${id}?revision=2`))).toBe('r2');
    await send(manager, 'PUT', `${id}/traffic`, { mode: 'auto' });
    expect((await execute(manager, id)).status).toBe(200);
    const remove = () => manager.send(`/functions/${id}/revisions/1`, { method: 'DELETE' });
    await vi.waitFor(async () => expect((await remove()).status).toBe(204), { timeout: 60_000, interval: 500 });
    expectProblem(
      await send(manager, 'PUT', `${id}/traffic`, { targets: [{ revision: 1, percent: 100 }] }),
      404,
      'revision_not_found',
    );
    await manager.remove(id);
  });

  it(
    'moves without a failed call, and without one that a revision without traffic answers',
    { timeout: 180_000 },
    async () => {
      const { manager } = stage;
      const id = await made();
      await divided(manager, id, [
        { revision: 1, percent: 100 },
        { revision: 2, percent: 0 },
      ]);
      let allowed = ['r1'];
      const calling = new AbortController();
      const wrong: string[] = [];
      let calls = 0;
      const caller = async () => {
        while (!calling.signal.aborted) {
          const before = allowed;
          const result = answered(await execute(manager, id));
          if (!before.includes(result) && !allowed.includes(result)) wrong.push(result);
          calls += 1;
          await delay(20);
        }
      };
      const callers = [caller(), caller(), caller()];
      for (let move = 0; move < 20; move += 1) {
        const share = [0, 50, 100][move % 3] as number;
        const next = [...(share > 0 ? ['r1'] : []), ...(share < 100 ? ['r2'] : [])];
        allowed = [...new Set([...allowed, ...next])];
        await divided(manager, id, [
          { revision: 1, percent: share },
          { revision: 2, percent: 100 - share },
        ]);
        allowed = next;
        const seen = await counted(manager, id, 20);
        expect(Object.keys(seen).every((result) => next.includes(result))).toBe(true);
      }
      calling.abort();
      await Promise.all(callers);
      expect(wrong).toEqual([]);
      expect(calls).toBeGreaterThan(50);
      await manager.remove(id);
    },
  );
});

describeOnAnyEngine('divided traffic', (engine) => {
  const stage = Stage.on(engine, { READY_TIMEOUT_MS: '8000', SCALE_INTERVAL_MS: '200' });
  const made = async (second = answering('r2')) => {
    const { id } = await stage.manager.add(answering('r1'));
    await revised(stage.manager, id, { code: second });
    return id;
  };
  const workloadOf = async (id: string, revision: number) => {
    const { targets } = (await stage.manager.send(`/functions/${id}/traffic`)).json() as TrafficDto;
    return targets.find((target) => target.revision === revision)!.container_name.replace('faas-worker-', '');
  };

  it('shows one function, whose other workers answer to no id of their own', async () => {
    const { manager } = stage;
    const id = await made();
    await divided(manager, id, halves);
    const listed = (await manager.send('/functions')).json() as { id: string }[];
    expect(listed.map((one) => one.id)).toEqual([id]);
    const workload = await workloadOf(id, 1);
    expect(workload).not.toBe(id);
    expectProblem(await manager.send(`/functions/${workload}`), 404, 'function_not_found');
    expectProblem(await execute(manager, workload), 404, 'function_not_found');
    expectProblem(await send(manager, 'PUT', `${workload}/traffic`, { mode: 'auto' }), 404, 'function_not_found');
    expectProblem(await manager.send(`/functions/${workload}`, { method: 'DELETE' }), 404, 'function_not_found');
    expect(await counted(manager, id, 40)).toEqual({ r1: expect.any(Number), r2: expect.any(Number) });
    await manager.remove(id);
    expect(await stage.room.workers()).toEqual([]);
  });

  it('obeys If-Match, and the switch of the function', async () => {
    const { manager } = stage;
    const id = await made();
    const { headers } = await manager.send(`/functions/${id}/traffic`);
    const set = await send(
      manager,
      'PUT',
      `${id}/traffic`,
      { targets: halves },
      { 'If-Match': headers['etag'] as string },
    );
    expect(set.status).toBe(200);
    expect(set.headers['etag']).not.toBe(headers['etag']);
    const late = send(manager, 'PUT', `${id}/traffic`, { mode: 'auto' }, { 'If-Match': headers['etag'] as string });
    expectProblem(await late, 412, 'version_outdated');
    await send(manager, 'PATCH', id, { enabled: false });
    expectProblem(await execute(manager, id), 409, 'function_disabled');
    await send(manager, 'PATCH', id, { enabled: true });
    expect((await execute(manager, id)).status).toBe(200);
    await manager.remove(id);
  });

  it('is what was asked for last, and both makers hear the truth', async () => {
    const { manager } = stage;
    // It loads slowly the second time: by then its own workers are another revision’s.
    const id = await made(`import time\ntime.sleep(2)\n${answering('r2')}`);
    await revised(manager, id, { code: answering('r3') });
    const first = send(manager, 'PUT', `${id}/traffic`, { targets: [{ revision: 2, percent: 100 }] });
    await vi.waitFor(async () => {
      const { pending } = (await manager.send(`/functions/${id}/traffic`)).json() as TrafficDto;
      expect(pending).toMatchObject({ targets: [{ revision: 2 }] });
    });
    await divided(manager, id, [{ revision: 3, percent: 100 }]);
    expectProblem(await first, 409, 'traffic_superseded');
    expect(await counted(manager, id, 20)).toEqual({ r3: 20 });
    await manager.remove(id);
  });

  it('is settled by another manager when the one that waits is gone', { timeout: 60_000 }, async () => {
    const { manager } = stage;
    const other = await stage.start({ READY_TIMEOUT_MS: '8000' });
    const id = await made(`import time\ntime.sleep(1)\n${answering('r2')}`);
    await revised(manager, id, { code: answering('r3') });
    const waiting = send(other, 'PUT', `${id}/traffic`, { targets: [{ revision: 2, percent: 100 }] });
    waiting.catch(() => undefined);
    const isPending = async () => {
      const { pending } = (await manager.send(`/functions/${id}/traffic`)).json() as TrafficDto;
      expect(pending).not.toBeNull();
    };
    await vi.waitFor(isPending, { timeout: 10_000, interval: 20 });
    await other.stop();
    await waiting.catch(() => undefined);
    await vi.waitFor(async () => expect(await counted(manager, id, 20)).toEqual({ r2: 20 }), { timeout: 30_000 });
    await manager.remove(id);
  });

  it(
    'leaves the settings of the function alone, and its former revisions to go back to',
    { timeout: 90_000 },
    async () => {
      const { manager } = stage;
      const { id } = await manager.add(answering('r1'), { min_replicas: 2, idle_timeout_ms: 0 });
      await revised(manager, id, { code: answering('r2') });
      const settings = async () => {
        const { min_replicas, idle_timeout_ms } = (await manager.send(`/functions/${id}`)).json() as FunctionDetailDto;
        return [min_replicas, idle_timeout_ms];
      };
      await divided(manager, id, [{ revision: 1, percent: 100 }]);
      expect(await settings()).toEqual([2, 0]);
      const remove = await manager.send(`/functions/${id}/revisions/2`, { method: 'DELETE' });
      expectProblem(remove, 409, 'revision_in_use');
      expect((await send(manager, 'PUT', `${id}/traffic`, { mode: 'auto' })).status).toBe(200);
      expect(await settings()).toEqual([2, 0]);
      expect(await counted(manager, id, 20)).toEqual({ r2: 20 });
      await manager.remove(id);
    },
  );

  it('heals a revision whose worker is killed, while the other one serves', { timeout: 60_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(
      `import os\n\n\ndef handle(payload):\n    return os._exit(1) if payload else 'r1'\n`,
    );
    await revised(manager, id, { code: answering('r2') });
    await divided(manager, id, halves);
    const killing = send(manager, 'POST', `${id}/execute?revision=1`, { payload: 'die' });
    expectProblem(await killing, 502, 'worker_crashed');
    for (let call = 0; call < 10; call += 1) expect(answered(await execute(manager, `${id}?revision=2`))).toBe('r2');
    await vi.waitFor(async () => expect(answered(await execute(manager, `${id}?revision=1`))).toBe('r1'), {
      timeout: 30_000,
    });
    await manager.remove(id);
  });

  it('keeps what both revisions print under the one function', { timeout: 60_000 }, async () => {
    const { manager } = stage;
    const saying = (text: string) => `def handle(payload):\n    print('says ${text}')\n    return '${text}'\n`;
    const { id } = await manager.add(saying('r1'), { idle_timeout_ms: 1_000 });
    await revised(manager, id, { code: saying('r2') });
    await divided(manager, id, halves);
    await execute(manager, `${id}?revision=1`);
    await execute(manager, `${id}?revision=2`);
    const printed = async (revision: number) => (await manager.send(`/functions/${id}/logs?revision=${revision}`)).text;
    const both = async () => {
      for (const revision of [1, 2]) expect(await printed(revision)).toContain(`says r${revision}`);
    };
    await vi.waitFor(both, { timeout: 20_000, interval: 200 });
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 30_000, interval: 200 });
    await both();
    await send(manager, 'PUT', `${id}/traffic`, { mode: 'auto' });
    await both();
    await manager.remove(id);
  });
});

// What makes its revision fail is a file of this machine.
describeOnProcesses('divided traffic of a function whose newest file fails', (engine) => {
  const stage = Stage.on(engine, { READY_TIMEOUT_MS: '8000', SCALE_INTERVAL_MS: '200' });

  it('stays divided when the newest revision can no longer be loaded, and says why', { timeout: 90_000 }, async () => {
    const { manager } = stage;
    const folder = await mkdtemp(join(tmpdir(), 'faas-flag-'));
    await chmod(folder, 0o755);
    const flag = join(folder, 'broken');
    const { id } = await manager.add(answering('r1'));
    await revised(manager, id, { code: answering('r2') });
    await divided(manager, id, halves);
    const moody = `import os\nif os.path.exists(${JSON.stringify(flag)}):\n    raise ValueError('moody')\n${answering('r3')}`;
    await revised(manager, id, { code: moody });
    await writeFile(flag, '');
    expectProblem(await send(manager, 'PUT', `${id}/traffic`, { mode: 'auto' }), 422, 'handler_not_loadable');
    const seen = (await manager.send(`/functions/${id}/traffic`)).json() as TrafficDto;
    expect(seen).toMatchObject({ mode: 'targets', targets: [{ revision: 1 }, { revision: 2 }] });
    expect(seen.pending).toMatchObject({ mode: 'auto', error: { code: 'handler_not_loadable' } });
    expect(await counted(manager, id, 40)).toEqual({ r1: expect.any(Number), r2: expect.any(Number) });
    await rm(folder, { recursive: true });
    // The revision failed, so the newest one that can serve has the calls.
    expect((await send(manager, 'PUT', `${id}/traffic`, { mode: 'auto' })).status).toBe(200);
    expect(await counted(manager, id, 20)).toEqual({ r2: 20 });
    await manager.remove(id);
  });
});
