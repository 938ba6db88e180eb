import { describe, expect, it, vi } from 'vitest';
import { describeOnEachEngine } from '../support/engines.js';
import { ECHO, SLEEPY } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const OUTCOMES = new Set([200, 404, 409, 502]);

describeOnEachEngine('at the same moment', (engine) => {
  const stage = Stage.on(engine);

  it.each(['sleep 0', 'sleep 0.02'])('a removal and calls (%s): each call gets its answer', async (payload) => {
    const { manager } = stage;
    const { id } = await manager.add(SLEEPY);
    const statuses: number[] = [];
    let removed = false;
    const caller = async () => {
      // oxlint-disable-next-line no-unmodified-loop-condition -- set while it waits
      while (!removed) statuses.push((await manager.call(id, payload)).status);
    };
    const callers = Array.from({ length: 8 }, caller);
    await vi.waitFor(() => expect(statuses.length).toBeGreaterThan(20), { timeout: 30_000 });
    expect((await manager.remove(id)).status).toBe(204);
    removed = true;
    await Promise.all(callers);
    expect(statuses.filter((status) => !OUTCOMES.has(status))).toEqual([]);
    expect(statuses).toContain(200);
    // Removal lets calls in flight finish, so no call is lost.
    expect(statuses).not.toContain(502);
    expectProblem(await manager.call(id), 404, 'function_not_found');
    expect(await stage.room.workers()).toEqual([]);
  });

  it('a call through any manager after a removal was answered finds nothing', async () => {
    const { manager } = stage;
    const other = await stage.start();
    for (let round = 0; round < 3; round += 1) {
      const { id } = await manager.add(ECHO);
      for (const one of [manager, other]) expect((await one.call(id, 'x')).status).toBe(200);
      expect((await manager.remove(id)).status).toBe(204);
      const answers = await Promise.all([manager.call(id), other.call(id)]);
      for (const answer of answers) expectProblem(answer, 404, 'function_not_found');
    }
    await other.stop();
  });

  it('two removals: both are answered, and one function is gone', async () => {
    const { manager } = stage;
    const { id } = await manager.add(ECHO);
    const statuses = (await Promise.all([manager.remove(id), manager.remove(id)])).map(({ status }) => status);
    expect(statuses).toContain(204);
    for (const status of statuses) expect([204, 404]).toContain(status);
    expect((await manager.send('/functions')).text).toBe('[]');
  });

  it('nine uploads through two managers, good and bad: each gets its own answer', async () => {
    const { manager } = stage;
    const other = await stage.start();
    const uploads = Array.from({ length: 9 }, async (_, index) => {
      const good = index % 3 !== 0;
      const code = good
        ? `def handle(payload):\n    return [${index}, payload]\n`
        : `raise RuntimeError("number ${index}")\n`;
      const answer = await (index % 2 ? manager : other).send('/functions', { method: 'POST', ...upload(code) });
      if (!good) {
        expect(expectProblem(answer, 422, 'handler_not_loadable').detail).toContain(`number ${index}`);
        return undefined;
      }
      expect(answer.status).toBe(201);
      const { id } = answer.json() as { id: string };
      expect((await (index % 2 ? other : manager).call(id, 'x')).text).toBe(`{"result":[${index},"x"]}`);
      return id;
    });
    const ids = (await Promise.all(uploads)).filter((id) => id !== undefined);
    expect(ids).toHaveLength(6);
    expect(await stage.room.workers()).toHaveLength(6);
    const removals = await Promise.all(ids.map((id, index) => (index % 2 ? manager : other).remove(id)));
    expect(new Set(removals.map(({ status }) => status))).toEqual(new Set([204]));
    expect(await stage.room.workers()).toEqual([]);
    await other.stop();
  });

  describe('an upload that takes its time', () => {
    it('and its removal: the uploader and waiting callers are told, and nothing stays', async () => {
      const { manager } = stage;
      const code = `import time\ntime.sleep(60)\n${ECHO}`;
      const uploading = manager.send('/functions', { method: 'POST', ...upload(code) });
      const id = await vi.waitFor(async () => {
        const [listed] = (await manager.send('/functions')).json() as {
          id: string;
          status: string;
          container_id: string;
        }[];
        expect(listed).toMatchObject({ status: 'creating' });
        expect(await stage.room.workers()).toHaveLength(1);
        return listed!.id;
      }, 30_000);
      const waiting = manager.call(id, 'x');
      await vi.waitFor(async () =>
        expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({ ready_replicas: 0 }),
      );
      expect((await manager.remove(id)).status).toBe(204);
      expect(expectProblem(await uploading, 409, 'function_removed').detail).toContain(id);
      expect([404, 409]).toContain((await waiting).status);
      expect(await stage.room.workers()).toEqual([]);
    });
  });
});
