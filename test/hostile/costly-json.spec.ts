import { expect, it } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { expectProblem } from '../support/http.js';
import { ANSWERING } from './support/handlers.js';
import { Victim } from './support/victim.js';

const MIB = 1024 * 1024;
/** Parsing what is sent here stalls a manager for seconds, on a machine that does nothing else. */
const MOST_STALLED_MS = 3_000;
const MOST_GROWTH_MIB = 200;

describeOnProcesses('JSON that costs much to parse', (engine) => {
  const victim = Victim.on(engine);
  /** What honest callers feel while something goes on. */
  const stalledBy = async <T>(attack: Promise<T>): Promise<{ done: T; slowest: number }> => {
    const state = { isDone: false };
    let slowest = 0;
    const watched = attack.finally(() => (state.isDone = true));
    while (!state.isDone) slowest = Math.max(slowest, await victim.slowest(1));
    return { done: await watched, slowest };
  };

  it('stalls nobody as an error of a worker, and shows how it begins', async () => {
    const id = await victim.add(ANSWERING);
    const before = await victim.peakMiB();
    const { done, slowest } = await stalledBy(victim.call(id, 'error 60'));
    const problem = expectProblem(done, 500, 'handler_error');
    expect(problem.detail).toMatch(/^\{"detail":"it failed","more":\[\{"9":0\},/);
    expect(problem.detail.length).toBeLessThan(1_000);
    expect(slowest).toBeLessThan(MOST_STALLED_MS);
    expect((await victim.peakMiB()) - before).toBeLessThan(MOST_GROWTH_MIB);
    await victim.expectUnharmed();
  });

  it('stalls nobody as an answer that isn’t a result for long', async () => {
    const id = await victim.add(ANSWERING);
    const before = await victim.peakMiB();
    const { done, slowest } = await stalledBy(victim.call(id, 'late 60'));
    expectProblem(done, 500, 'handler_result_invalid');
    expect(slowest).toBeLessThan(MOST_STALLED_MS);
    expect((await victim.peakMiB()) - before).toBeLessThan(MOST_GROWTH_MIB);
    await victim.expectUnharmed();
  });

  it('stalls nobody as the body of a call', async () => {
    const id = await victim.add(ANSWERING);
    const before = await victim.peakMiB();
    const body = Buffer.from(`{"payload":"x","more":[${'{"9":0},'.repeat((35 * MIB) / 8)}0]}`);
    const { done, slowest } = await stalledBy(victim.call(id, '', { body }));
    const problem = expectProblem(done, 400, 'invalid_payload');
    expect(problem.detail).toContain('more than 65536 bytes beside the payload');
    expect(slowest).toBeLessThan(MOST_STALLED_MS);
    expect((await victim.peakMiB()) - before).toBeLessThan(MOST_GROWTH_MIB);
    await victim.expectUnharmed();
  });
});
