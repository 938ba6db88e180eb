import { expect, it, vi } from 'vitest';
import type { RevisionDto, TrafficDto } from '../client/index.js';
import { expectAsDocumented } from '../support/document.js';
import { describeOnEachEngine } from '../support/engines.js';
import { type Answer, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

const answering = (text: string) => `def handle(payload):\n    return ${JSON.stringify(text)}\n`;

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
});
