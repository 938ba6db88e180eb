import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { LogRange, PlainLine } from '#libs/orchestrator/replica-log.js';
import { describe, expect, it, vi } from 'vitest';
import { RunLog } from './run-log.js';

const REQUEST = 'a-request';
const PATIENCE_MS = 20_000;
const lineOf = (text: string, index = 0): PlainLine => ({
  time: `2026-01-01T00:00:00.${String(index).padStart(9, '0')}Z`,
  stream: 'stdout',
  text,
});
const END = `[${REQUEST}] {"faas": "end of call"}`;

/** A run whose worker prints these, and goes on to run; `tail`: what is there when it is read from its end. */
function followed(printed: readonly string[], tail: readonly string[] = []) {
  const ranges: LogRange[] = [];
  async function* lines(range: LogRange): AsyncGenerator<PlainLine> {
    ranges.push(range);
    yield* (range.follow ? printed : tail).map(lineOf);
    if (range.follow) await new Promise((resolve) => range.signal.addEventListener('abort', resolve));
  }
  const log = { replica: 'r1', revision: 1, isOpen: true, lines };
  const orchestrator: Partial<Orchestrator> = { logs: () => Promise.resolve([log]) };
  return { run: begun(orchestrator), ranges };
}

function begun(orchestrator: Partial<Orchestrator>) {
  const run = new RunLog(orchestrator as Orchestrator).of('aaaaaaaaaaaaaaaa', REQUEST);
  run.follow();
  return run;
}

describe('the log of a run', () => {
  it('is there once both streams have ended, but for what the worker says of itself', async () => {
    const { run, ranges } = followed([`[${REQUEST}] hello`, '{"faas": "ready"}', 'of a child', END, END]);
    using log = run;
    const lines = await log.lines(PATIENCE_MS, 'r1');
    expect(lines.map(({ line, request_id }) => [line, request_id])).toEqual([
      ['hello', REQUEST],
      ['of a child', null],
    ]);
    expect(ranges).toHaveLength(1);
  });

  it('is what there is at its end, where that isn’t told', async () => {
    const { run, ranges } = followed([`[${REQUEST}] hello`, END], [`[${REQUEST}] hello`, END, 'later']);
    using log = run;
    expect((await log.lines(20, 'r1')).map(({ line }) => line)).toEqual(['hello', 'later']);
    expect(ranges.map(({ follow, signal }) => [follow, signal.aborted])).toEqual([
      [true, true],
      [false, true],
    ]);
  });

  it('has the newest lines of one that prints without end', async () => {
    const long = Array.from({ length: 5_000 }, (_, index) => `${index} ${'x'.repeat(1_000)}`);
    using log = followed([...long, END, END], [...long.slice(-1_000), END, END]).run;
    const lines = await log.lines(PATIENCE_MS, 'r1');
    expect(lines.at(-1)?.line).toBe(long.at(-1));
    expect(lines.length).toBeGreaterThan(200);
    expect(lines.reduce((sum, { line }) => sum + line.length, 0)).toBeLessThanOrEqual(256 * 1024);
  });

  it('is what was read of a worker that is gone, and nothing of one in its place', async () => {
    let [isRead, isGone] = [false, false];
    async function* lines(range: LogRange): AsyncGenerator<PlainLine> {
      yield* [`[${REQUEST}] hello`, 'of a child'].map(lineOf);
      isRead = true;
      if (range.follow) await new Promise((resolve) => range.signal.addEventListener('abort', resolve));
    }
    async function* otherLines(): AsyncGenerator<PlainLine> {
      yield* ['loaded', 'again', 'by another'].map(lineOf);
    }
    const logs = () => {
      const log = { replica: 'r1', revision: 1, isOpen: true, lines };
      const other = { replica: 'r2', revision: 1, isOpen: true, lines: otherLines };
      return Promise.resolve(isGone ? [other] : [log]);
    };
    using log = begun({ logs });
    await vi.waitFor(() => expect(isRead).toBe(true));
    isGone = true;
    expect((await log.lines(20, 'r1')).map(({ line }) => line)).toEqual(['hello', 'of a child']);
  });

  it('is empty where the engine can’t be asked', async () => {
    const orchestrator: Partial<Orchestrator> = { logs: () => Promise.reject(new Error('It is away.')) };
    using log = begun(orchestrator);
    expect(await log.lines(20, 'r1')).toEqual([]);
  });
});
