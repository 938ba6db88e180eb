import { expect, it } from 'vitest';
import type { Orchestrator } from '../orchestrator.js';
import type { FunctionId, LogLine } from '../workload.js';
import { answering, TALKATIVE } from './contract.handlers.js';
import type { Stage } from './contract.stage.js';

async function newest(stage: Stage, manager: Orchestrator, id: FunctionId, tail: number): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for await (const line of manager.logs(id, { tail, follow: false, signal: stage.signal() })) lines.push(line);
  return lines;
}

export function logBehaviour(stage: () => Stage): void {
  it('shows the newest log lines of a function, oldest first', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(TALKATIVE);
    const seen = await stage().settleReady(manager, workload);
    for (const word of ['one', 'two', 'three']) await stage().call(seen.endpoints[0], word);
    const lines = await stage().until(
      'the last line is in the log',
      () => newest(stage(), manager, workload.functionId, 100),
      (found) => found.some(({ text }) => text.includes('said three')),
    );
    const said = lines.filter(({ text }) => text.includes('said '));
    expect(said.map(({ text }) => /said (\w+)/.exec(text)?.[1])).toEqual(['one', 'two', 'three']);
    for (const line of said) {
      expect(line.replica).toBe(seen.endpoints[0]?.replica);
      expect(Math.abs(Date.now() - line.at.getTime())).toBeLessThan(stage().deadlineMs * 2);
    }
    expect(await newest(stage(), manager, workload.functionId, 2)).toHaveLength(2);
  });

  it('follows the log until the signal aborts', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(TALKATIVE);
    const seen = await stage().settleReady(manager, workload);
    const controller = new AbortController();
    const signal = AbortSignal.any([controller.signal, stage().signal()]);
    const found: string[] = [];
    const following = (async () => {
      for await (const { text } of manager.logs(workload.functionId, { tail: 100, follow: true, signal })) {
        const word = /said (\w+)/.exec(text)?.[1];
        if (word === undefined) continue;
        found.push(word);
        // The second call is made only now, so that its line can't be part of the tail.
        if (word === 'first') await stage().call(seen.endpoints[0], 'second');
        if (word === 'second') controller.abort();
      }
    })();
    await stage().call(seen.endpoints[0], 'first');
    await following;
    expect(controller.signal.aborted).toBe(true);
    expect(found).toEqual(['first', 'second']);
  });

  it('has no lines for a function it does not know', async () => {
    const manager = await stage().manager();
    expect(await newest(stage(), manager, stage().workload(answering('one')).functionId, 10)).toEqual([]);
  });
}
