import { expect, it } from 'vitest';
import type { LastWords } from '../departures.js';
import { followLines } from '../function-log.js';
import { answering, TALKATIVE } from './contract.handlers.js';
import type { Stage } from './contract.stage.js';

export function logBehaviour(stage: () => Stage): void {
  it('shows the newest log lines of a function, oldest first', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(TALKATIVE);
    const seen = await stage().settleReady(manager, workload);
    for (const word of ['one', 'two', 'three']) await stage().call(seen.endpoints[0], word);
    const lines = await stage().until(
      'the last line is in the log',
      () => stage().logOf(manager, workload.functionId),
      (found) => found.some(({ text }) => text.includes('said three')),
    );
    const said = lines.filter(({ text }) => text.includes('said '));
    expect(said.map(({ text }) => /said (\w+)/.exec(text)?.[1])).toEqual(['one', 'two', 'three']);
    for (const line of said) {
      expect(line).toMatchObject({ replica: seen.endpoints[0]?.replica, revision: workload.revision });
      expect(line.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
      expect(Math.abs(Date.now() - Date.parse(line.time))).toBeLessThan(stage().deadlineMs * 2);
    }
    expect(await stage().logOf(manager, workload.functionId, 2)).toHaveLength(2);
  });

  it('follows the log until the signal aborts', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(TALKATIVE);
    const seen = await stage().settleReady(manager, workload);
    const controller = new AbortController();
    const signal = AbortSignal.any([controller.signal, stage().signal()]);
    const found: string[] = [];
    const following = (async () => {
      const list = (listing: AbortSignal) => manager.logs(workload.functionId, listing);
      for await (const item of followLines({ list, after: new Map(), signal })) {
        const word = 'text' in item ? /said (\w+)/.exec(item.text)?.[1] : undefined;
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

  it('shows the lines since a time, and follows from the last line that was read', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(TALKATIVE);
    const seen = await stage().settleReady(manager, workload);
    const said = async (word: string) => {
      await stage().call(seen.endpoints[0], word);
      const lines = await stage().until(
        `${word} is in the log`,
        () => stage().logOf(manager, workload.functionId),
        (found) => found.some(({ text }) => text.includes(`said ${word}`)),
      );
      return lines.find(({ text }) => text.includes(`said ${word}`))!;
    };
    const [, second] = [await said('one'), await said('two')];
    const since = await stage().logOf(manager, workload.functionId, 100, second.time);
    expect(since.map(({ text }) => /said \w+/.exec(text)?.[0])).toEqual(['said two']);
    await said('three');
    const list = (listing: AbortSignal) => manager.logs(workload.functionId, listing);
    const after = new Map([[second.replica, second.time]]);
    for await (const item of followLines({ list, after, signal: stage().signal() })) {
      expect(item).toMatchObject({ text: expect.stringContaining('said three') as string });
      break;
    }
  });

  it.each(['is scaled down', 'is killed'])(
    'tells what a replica has said last before it is gone, when it %s',
    async (how) => {
      const manager = await stage().manager();
      const told: LastWords[] = [];
      manager.departures.keepWith(async (words) => void told.push(words));
      const watching = stage().watch(manager);
      const workload = stage().workload(TALKATIVE);
      const { endpoints } = await stage().settleReady(manager, workload);
      const { replica } = endpoints[0]!;
      await stage().call(endpoints[0], 'farewell');
      await stage().until(
        'it is in the log',
        () => stage().logOf(manager, workload.functionId),
        (lines) => lines.some(({ text }) => text.includes('said farewell')),
      );
      if (how === 'is killed') await stage().harness.kill(workload.functionId, replica);
      const wanted = { ...workload, replicas: how === 'is killed' ? 1 : 0 };
      await stage().until(
        'its last words are told',
        async () => {
          await stage().ensure(manager, wanted);
          return told;
        },
        (words) => words.some((one) => one.lines.some(({ text }) => text.includes('said farewell'))),
      );
      expect(told[0]).toMatchObject({ functionId: workload.functionId, replica, revision: workload.revision });
      await watching.stop();
    },
  );

  it('has no lines for a function it does not know', async () => {
    const manager = await stage().manager();
    expect(await stage().logOf(manager, stage().workload(answering('one')).functionId)).toEqual([]);
  });
}
