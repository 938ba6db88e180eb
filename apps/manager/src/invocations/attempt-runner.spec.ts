import { randomUUID } from 'node:crypto';
import { loadConfig } from '#libs/config/load-config.js';
import { Metrics } from '#libs/observability/metrics.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { CallCancelled } from '../gateway/errors.js';
import type { Call, Invoker } from '../gateway/invoker.js';
import { MemoryBudget, MemoryExhausted } from '../memory/memory-budget.js';
import { Attempt, AttemptRunner } from './attempt-runner.js';
import type { InvocationMetrics } from './invocation-metrics.js';
import type { Claimed, Completion, InvocationRepository } from './invocation.repository.js';

const { invocations: CONFIG, limits: LIMITS } = loadConfig({});
const RESULT = Buffer.from('{"result":1}');

const claim: Claimed = {
  ...{ id: randomUUID(), functionId: 'aaaaaaaaaaaaaaaa', token: randomUUID(), postponed: 0, attempt: 1 },
  retry: { maxAttempts: 3, on: ['error'], backoffMs: 0 },
  ...{ createdBy: null, choice: null, body: Buffer.from('{}'), bodyBytes: 2 },
  ...{ isExpired: false, isCancelled: false, hasCallback: false, isHttp: false, isScheduled: false },
};

let invoke: (call: Call) => Promise<Buffer | 'streamed'>;
/** What the database says to each try to write an end; then it takes everything. */
let refusals: Error[];
let written: Completion[];
beforeEach(() => {
  invoke = () => Promise.resolve(RESULT);
  refusals = [];
  written = [];
});

function run(attempt = new Attempt(claim)): Promise<Completion | undefined> {
  const repository: Partial<InvocationRepository> = {
    complete: (completion) => {
      const refusal = refusals.shift();
      if (refusal !== undefined) return Promise.reject(refusal);
      written.push(completion);
      return Promise.resolve(true);
    },
  };
  const invoker: Partial<Invoker> = { invoke: (_, call) => invoke(call) };
  const metrics: Partial<InvocationMetrics> = { ended: () => undefined };
  const runner = new AttemptRunner(
    invoker as Invoker,
    new MemoryBudget({ heldBytes: 1_000_000 }, new Metrics()),
    repository as InvocationRepository,
    metrics as InvocationMetrics,
    CONFIG,
    LIMITS,
    pino({ level: 'silent' }) as unknown as PinoLogger,
  );
  return runner.run(attempt, () => undefined);
}

const sqlError = (code: string) => Object.assign(new Error(`SQLSTATE ${code}`), { code });

describe('an attempt of a call for later', () => {
  it('counts where there was no memory for what the handler gave back', async () => {
    invoke = ({ timing }) => {
      timing.sends(performance.now());
      timing.revision = 1;
      return Promise.reject(new MemoryExhausted('manager_overloaded', 1));
    };
    expect(await run()).toMatchObject({ status: 'waiting', counts: true, error: { code: 'manager_overloaded' } });
    expect(await run(new Attempt({ ...claim, attempt: 3 }))).toMatchObject({ status: 'dead' });
  });

  it('counts not where there was no memory to begin it', async () => {
    invoke = () => Promise.reject(new MemoryExhausted('manager_overloaded', 1));
    expect(await run()).toMatchObject({ status: 'waiting', counts: false });
  });

  it.each(['57014', '55P03', '40001'])('is recorded once the database is fast enough again, after %s', async (code) => {
    refusals = Array.from({ length: 4 }, () => sqlError(code));
    expect(await run()).toMatchObject({ status: 'succeeded', result: RESULT });
  });

  it('is recorded as what failed for good where the database takes no such end', async () => {
    refusals = Array.from({ length: 3 }, () => sqlError('22P05'));
    expect(await run()).toMatchObject({ status: 'dead', error: { code: 'internal_error' } });
    expect(written).toHaveLength(1);
  });

  it('holds nothing of a result that is too large to be kept, and tells its size', async () => {
    const piece = Buffer.alloc(300 * 1024);
    const streamed = (pieces: number) => (call: Call) => {
      const into = call.sink!.begin(undefined);
      for (let count = 0; count < pieces; count += 1) into.write(piece);
      into.end();
      return Promise.resolve('streamed' as const);
    };
    invoke = streamed(5);
    expect(await run()).toMatchObject({ status: 'succeeded', result: undefined, resultBytes: 5 * piece.length });
    invoke = streamed(2);
    expect(await run()).toMatchObject({ result: Buffer.concat([piece, piece]), resultBytes: 2 * piece.length });
  });

  it.each([
    ['shutdown', true],
    ['lost_lease', true],
    ['cancel', false],
  ] as const)('that %s has ended is made anew elsewhere: %s', async (by, isGivenBack) => {
    const attempt = new Attempt(claim);
    const said: unknown[] = [];
    invoke = ({ attemptOf }) => {
      said.push(attemptOf?.isGivenBack);
      attempt.end(by);
      said.push(attemptOf?.isGivenBack);
      return Promise.reject(new CallCancelled());
    };
    await run(attempt);
    expect(said).toEqual([false, isGivenBack]);
  });

  it('is left to whoever has the lease when that is lost meanwhile', async () => {
    refusals = Array.from({ length: 500 }, () => sqlError('57014'));
    const attempt = new Attempt(claim);
    const ended = run(attempt);
    attempt.end('lost_lease');
    expect(await ended).toBeUndefined();
    expect(written).toEqual([]);
  });
});
