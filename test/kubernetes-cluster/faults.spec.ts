import { describe, expect, it, vi } from 'vitest';
import type { FunctionDetailDto } from '../client/index.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import type { Env, TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';
import { CLUSTER_IMAGES } from './support/images.js';
import { limitRange, noAccount, type Obstacle, quota } from './support/obstacles.js';
import { policy } from '../kubernetes/support/policy.js';
import { type Namespace, namespaceEngine } from './support/room.js';

/** Far less than the 60 s an upload may take. */
const WITHIN_MS = 20_000;
const HEALED = { timeout: 120_000, interval: 250 };
const NO_IMAGE = '127.0.0.1:9/nobody/nothing:1';
/** More than any node has; a limit may be that high. */
const HUGE = '900000';
const OVERSIZED = 'import os\nBALLAST = bytearray(os.urandom(1024)) * (1024 * 1024)\n' + ECHO;
/** Once told to break, it ends whenever it is loaded: a pod's temporary folder outlives its containers. */
const FRAIL = `import os

MARK = "/tmp/broken"
if os.path.exists(MARK):
    print("it is broken", flush=True)
    os._exit(9)

def handle(payload):
    if payload == "break":
        open(MARK, "w").close()
        os._exit(9)
    return payload
`;

describe('why a function is not running [kubernetes]', () => {
  let room: Namespace;
  const stage = Stage.on(namespaceEngine((opened) => (room = opened)));
  let manager: TestManager;

  /** The only manager from now on: two that differ would each make the other's pods anew. */
  async function restart(env: Env = {}): Promise<void> {
    await (manager ?? stage.manager).stop();
    manager = await stage.start({ READY_TIMEOUT_MS: '60000', ...env });
  }

  const detail = async (id: string) => (await manager.send(`/functions/${id}`)).json() as FunctionDetailDto;

  /** Answers the whole answer's text. */
  async function expectRefusal(code: string, says: RegExp, others: readonly string[] = []): Promise<string> {
    const began = performance.now();
    const answer = await manager.send('/functions', { method: 'POST', ...upload(code) });
    expect(performance.now() - began).toBeLessThan(WITHIN_MS);
    expect(expectProblem(answer, 503, 'function_not_ready').detail).toMatch(says);
    await expectNothingBut(others);
    return answer.text;
  }

  /** A refusal is told before the pods of the function that was refused have ended. */
  async function expectNothingBut(others: readonly string[]): Promise<void> {
    await vi.waitFor(async () => {
      const listed = (await manager.send('/functions')).json() as { id: string }[];
      expect(listed.map(({ id }) => id)).toEqual(others);
      expect(await room.cluster.leftovers(others)).toEqual([]);
    }, HEALED);
  }

  async function expectCondition(id: string, type: 'Ready' | 'Reconciled', reason: string, says: RegExp) {
    await vi.waitFor(
      async () => {
        const { conditions, last_error } = await detail(id);
        expect(conditions.find((condition) => condition.type === type)).toMatchObject({
          status: false,
          reason,
          message: expect.stringMatching(says) as string,
        });
        expect(last_error).toMatchObject({ code: reason, message: expect.stringMatching(says) as string });
      },
      { timeout: WITHIN_MS, interval: 250 },
    );
  }

  async function expectHealed(id: string): Promise<void> {
    await vi.waitFor(async () => {
      const { status, conditions } = await detail(id);
      expect({ status, conditions: conditions.map((condition) => condition.status) }).toEqual({
        status: 'running',
        conditions: [true, true],
      });
    }, HEALED);
    expect((await manager.call(id, 'healed')).text).toBe('{"result":"healed"}');
    expect((await manager.remove(id)).status).toBe(204);
  }

  const OBSTACLES: { what: string; put: () => Promise<Obstacle>; says: RegExp }[] = [
    { what: 'a quota that is used up', put: () => quota(room.cluster), says: /exceeded quota: tight/ },
    { what: 'a limit on containers', put: () => limitRange(room.cluster), says: /maximum memory usage .*16Mi/ },
    { what: 'a missing account of the workers', put: () => noAccount(room.cluster), says: /faas-worker.* not found/ },
    {
      what: 'a policy against its pods',
      put: () => policy(room.cluster, { plural: 'pods' }, 'no pods on a Monday'),
      says: /no pods on a Monday/,
    },
  ];

  describe.each(OBSTACLES)('because of $what', ({ put, says }) => {
    it('tells an upload within seconds, and a function that ran says so until it can run again', async () => {
      await restart();
      const { id } = await manager.add(ECHO);
      {
        await using _ = await put();
        await expectRefusal(ECHO, says, [id]);
        await room.cluster.endPods(id);
        await expectCondition(id, 'Ready', 'rejected', says);
        expectProblem(await manager.call(id), 409, 'function_not_runnable');
      }
      await expectHealed(id);
    });
  });

  it('tells an upload at once that a policy of the cluster refuses its Deployment', async () => {
    await restart();
    await using _ = await policy(room.cluster, { plural: 'deployments' }, 'no deployments on a Monday');
    await expectRefusal(ECHO, /no deployments on a Monday/);
  });

  it("tells an upload that the image can't be pulled, and goes on serving with the former one", async () => {
    await restart();
    const { id } = await manager.add(ECHO);
    await restart({ WORKER_IMAGE: NO_IMAGE });
    await expectRefusal(ECHO, /image can't be had: .*127\.0\.0\.1:9\/nobody\/nothing:1/, [id]);
    await expectCondition(id, 'Reconciled', 'image_unavailable', /nobody\/nothing:1/);
    expect((await manager.call(id, 'still')).text).toBe('{"result":"still"}');
    expect(await detail(id)).toMatchObject({ status: 'running', ready_replicas: 1 });
    await restart();
    await expectHealed(id);
  });

  it('tells an upload that no node has room, and goes on serving where there was room', async () => {
    await restart({ WORKER_CPU_MILLIS: HUGE });
    const { id } = await manager.add(ECHO);
    await restart({ WORKER_CPU_MILLIS: HUGE, KUBERNETES_REQUEST_CPU_MILLIS: HUGE });
    await expectRefusal(ECHO, /No node has room for the worker: .*Insufficient cpu/, [id]);
    await expectCondition(id, 'Reconciled', 'unschedulable', /Insufficient cpu/);
    expect((await manager.call(id, 'still')).text).toBe('{"result":"still"}');
    await restart();
    await expectHealed(id);
  });

  it('tells an upload that loading it took all the memory of its worker', async () => {
    await restart({ WORKER_IMAGE: CLUSTER_IMAGES.plain, WORKER_MEMORY_MIB: '96' });
    await expectRefusal(OVERSIZED, /reached its memory limit/);
  });

  it("tells the same where our own worker's first process may live on", async () => {
    await restart({ WORKER_MEMORY_MIB: '96' });
    const answer = await manager.send('/functions', { method: 'POST', ...upload(OVERSIZED) });
    // Nodes end the one process (cgroup v1) or all of the container (v2).
    expect([422, 503]).toContain(answer.status);
    expect((answer.json() as { detail: string }).detail).toMatch(/memory/);
    await expectNothingBut([]);
  });

  it('tells an upload how its worker ends again and again, with what it printed', async () => {
    await restart({ WORKER_IMAGE: CLUSTER_IMAGES.plain });
    const detail = await expectRefusal('print("about to go", flush=True)\nimport os\nos._exit(9)\n', /code 9/);
    expect(detail).toContain('about to go');
  });

  it('says of a function whose worker ends again and again how, with its last lines', async () => {
    await restart({ WORKER_IMAGE: CLUSTER_IMAGES.plain });
    const { id } = await manager.add(FRAIL);
    expectProblem(await manager.call(id, 'break'), 502, 'worker_crashed');
    await expectCondition(id, 'Ready', 'worker_crashed', /code 9/);
    await vi.waitFor(async () => expect((await detail(id)).last_error?.detail).toMatch(/it is broken/), {
      timeout: WITHIN_MS,
      interval: 250,
    });
    expect((await manager.remove(id)).status).toBe(204);
    expect(await room.cluster.leftovers()).toEqual([]);
  });
});
