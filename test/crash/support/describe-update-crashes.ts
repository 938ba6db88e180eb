import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { RevisionDto, TrafficDto } from '../../client/index.js';
import type { BuildCopy } from './build-copy.js';
import { type Caller, type Reply, shown } from './caller.js';
import { killProcess } from './processes.js';
import { Random } from './random.js';
import { PackageIndex } from '../../support/package-index.js';
import { wheel } from '../../support/wheels.js';
import type { CrashSite } from './site.js';
import { Stage } from './stage.js';
import { planUpdate, type UpdateRound } from './update-round.js';

const ROUNDS = 20;
const ROUND_MS = 150_000;
const OPEN_MS = 180_000;
const WELL_AGAIN_MS = 90_000;
/** What a build leaves whose manager was killed goes when no build may take so long. */
const GONE_MS = 100_000;
const CALL_EVERY_MS = 25;
const EXCUSED: ReadonlySet<string> = new Set([
  'function_not_ready',
  'database_unavailable',
  'orchestrator_unavailable',
  'worker_crashed',
]);

/** `CRASH_ROUNDS` says how many rounds, `CRASH_SEED` which they are. */
export function describeUpdateCrashes(
  engine: string,
  share: number,
  open: (folder: string, build: BuildCopy) => Promise<CrashSite>,
): void {
  const seed = process.env['CRASH_SEED'] || randomBytes(4).toString('hex');
  const rounds = Math.max(1, Math.round(Number(process.env['CRASH_ROUNDS'] || ROUNDS) * share));

  describe(`updates, packages, rollbacks and divided traffic on the ${engine} engine, among crashes (seed ${seed})`, () => {
    let stage: Stage;
    let index: PackageIndex;
    let id: string;
    let last = 1;
    const random = new Random(`updates ${seed}`);
    const callerOf = (which: number) => stage.callers[which] as Caller;

    beforeAll(async () => {
      process.stdout.write(`updates among crashes on the ${engine} engine: ${rounds} rounds, CRASH_SEED=${seed}\n`);
      stage = await Stage.open(open, async ({ builds }) => {
        index = await PackageIndex.open(builds?.indexHost);
        return { PYTHON_INDEX_URL: index.url, BUILD_TIMEOUT_MS: '8000' };
      });
      // Later revisions have its packages too, until they name others.
      index.add(wheel('crash1'));
      const code = Buffer.from('import crash1\ndef handle(payload):\n    return 1\n');
      const scaling = { requirements: 'crash1' };
      const made = async () =>
        bodyOf<{ id: string }>(await callerOf(0).upload({ code, functionName: 'handle', scaling }, 10_000)).id;
      // A machine that is busy may take longer than a build may.
      id = await vi.waitFor(made, { timeout: OPEN_MS / 2, interval: 500 });
    }, OPEN_MS);

    afterAll(async () => {
      index?.close();
      await stage?.close();
    }, OPEN_MS);

    const traffic = async () => bodyOf<TrafficDto>(await callerOf(0).show(id, 'traffic'));
    const revisions = async () => bodyOf<RevisionDto[]>(await callerOf(0).show(id, 'revisions'));
    const serving = ({ targets }: TrafficDto) =>
      targets.filter(({ percent }) => percent > 0).map(({ revision }) => revision);
    const tail = () => stage.logs(60);

    /** Nothing is on its way, and both managers give calls to the revisions that have traffic, and to no other. */
    async function settled(): Promise<void> {
      const seen = await traffic();
      expect(seen.pending?.error === null ? seen.pending : null).toBeNull();
      expect((await revisions()).filter(({ status }) => status === 'pending')).toEqual([]);
      for (const caller of stage.callers) {
        for (let call = 0; call < 5; call += 1)
          expect(serving(seen)).toContain(resultOf(await caller.execute(id, '""')));
      }
    }

    async function kill({ victim, at, downFor, which }: UpdateRound): Promise<void> {
      await delay(at);
      const killed = stage.managers.filter((_, index) => victim === 'managers' || index === which);
      switch (victim) {
        case 'nobody':
          return;
        case 'worker': {
          const workers = await stage.site.workers().catch(() => []);
          if (workers.length === 0) return;
          const worker = random.pick(workers);
          if (stage.site.kill === undefined) killProcess(worker.pid);
          else await stage.site.kill(worker);
          return;
        }
        case 'builds':
          return stage.site.builds?.kill();
        case 'engine':
          await stage.site.daemon?.kill();
          await delay(downFor);
          return stage.site.daemon?.restart(true);
        case 'database':
          await stage.postgres.kill();
          await delay(downFor);
          await stage.postgres.restart();
          return;
        case 'manager':
        case 'managers':
          await Promise.all(killed.map((manager) => manager.kill()));
          await delay(downFor);
          await Promise.all(killed.map((manager) => manager.start()));
      }
    }

    async function round(number: number): Promise<void> {
      const listed = await revisions();
      const ready = listed.filter(({ status }) => status === 'ready').map(({ revision }) => revision);
      last = Math.max(last, ...listed.map(({ revision }) => revision));
      const plan = planUpdate(random, {
        ready: ready.toReversed(),
        last,
        // However few rounds there are, one of them builds.
        mustBuild: number === 1,
      });
      const { change, victim, asked } = plan;
      const allowed = new Set([...serving(await traffic()), ...change.allows]);
      const told: string[] = [];
      if (change.needs !== undefined) index.add(wheel(change.needs));
      const calling = new AbortController();
      const callers = stage.callers.map(async (caller) => {
        while (!calling.signal.aborted) {
          const reply = await caller.execute(id, '""');
          const fault = faultOf(reply, allowed);
          if (fault !== undefined) told.push(fault);
          await delay(CALL_EVERY_MS);
        }
      });
      const changing = callerOf(asked).change(change.method, id, change.path, change.body);
      await kill(plan);
      const reply = await changing;
      await vi.waitFor(settled, { timeout: WELL_AGAIN_MS, interval: 200 });
      calling.abort();
      await Promise.all(callers);
      const what = `${change.path} ${JSON.stringify(change.body)}, ${victim} killed, answered ${shown(reply)}`;
      expect(told, `${what}\n${tail()}`).toEqual([]);
      if (reply.kind === 'hung') throw new Error(`${what}\n${tail()}`);
      if (victim === 'nobody' && change.allows.length > 0) expect(reply, what).toMatchObject({ kind: 'answer' });
    }

    for (let number = 1; number <= rounds; number += 1) {
      it(`loses nothing and answers by no other revision, round ${number}`, { timeout: ROUND_MS }, () => round(number));
    }

    it('leaves nothing of any revision or build when the function is removed', { timeout: ROUND_MS }, async () => {
      await callerOf(0).remove(id);
      await vi.waitFor(
        async () => {
          expect(await callerOf(0).detail(id)).toMatchObject({ code: 'function_not_found' });
          expect(await stage.site.workers()).toEqual([]);
          expect(await stage.site.leaks(new Set())).toEqual([]);
        },
        { timeout: GONE_MS, interval: 200 },
      );
    });
  });
}

function bodyOf<T>(reply: Reply): T {
  if (reply.kind !== 'answer' || reply.status >= 300) throw new Error(shown(reply));
  return JSON.parse(reply.body.toString('utf8')) as T;
}

function resultOf(reply: Reply): number {
  return bodyOf<{ result: number }>(reply).result;
}

/** What is wrong with the answer of a call during a crash, if anything. */
function faultOf(reply: Reply, allowed: ReadonlySet<number>): string | undefined {
  if (reply.kind === 'broken' && reply.excused) return undefined;
  if (reply.kind !== 'answer') return shown(reply);
  if (reply.status === 200) {
    const result = resultOf(reply);
    return allowed.has(result) ? undefined : `revision ${result} answered, which had no traffic`;
  }
  return EXCUSED.has(reply.code ?? '') ? undefined : shown(reply);
}
