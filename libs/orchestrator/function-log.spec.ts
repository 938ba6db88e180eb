import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { followLines, newestLines } from './function-log.js';
import { type LogLine, type PlainLine, type ReplicaLog, timeAt } from './replica-log.js';

function line(at: number, text = String(at)): PlainLine {
  return { time: timeAt(new Date(at)), stream: 'stdout', text };
}

/** A log that prints what it is told to, and counts who reads it. */
class FakeLog implements ReplicaLog {
  readonly revision = 1;
  isOpen = true;
  readers = 0;
  private news = Promise.withResolvers<void>();

  constructor(
    readonly replica: string,
    readonly printed: PlainLine[] = [],
  ) {}

  print(...lines: PlainLine[]): void {
    this.printed.push(...lines);
    this.news.resolve();
  }

  async *lines({ tail, since = '', follow, signal }: Parameters<ReplicaLog['lines']>[0]): AsyncGenerator<PlainLine> {
    this.readers += 1;
    signal.addEventListener('abort', () => this.news.resolve(), { once: true });
    try {
      for (let shown = Math.max(0, this.printed.length - tail); !signal.aborted;) {
        for (; shown < this.printed.length; shown += 1)
          if (this.printed[shown]!.time >= since) yield this.printed[shown]!;
        if (!follow) return;
        await this.news.promise;
        this.news = Promise.withResolvers<void>();
      }
    } finally {
      this.readers -= 1;
    }
  }
}

const { signal } = new AbortController();
const soon = () => delay(5);

it('puts the lines of all replicas in the order of their times', async () => {
  const moments = fc.array(fc.array(fc.nat({ max: 1_000 }), { maxLength: 20 }), { maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(moments, async (all) => {
      const logs = all.map(
        (of, index) =>
          new FakeLog(
            `r${index}`,
            of.toSorted((a, b) => a - b).map((at) => line(at)),
          ),
      );
      const lines = await Array.fromAsync(newestLines(logs, { tail: 100, signal }));
      expect(lines.map(({ text }) => Number(text))).toEqual(all.flat().toSorted((a, b) => a - b));
      expect(logs.every(({ readers }) => readers === 0)).toBe(true);
    }),
  );
});

it('closes what it reads when its reader leaves', async () => {
  const logs = [new FakeLog('a', [line(1), line(2)]), new FakeLog('b', [line(3)])];
  for await (const { text } of newestLines(logs, { tail: 10, signal })) if (text === '1') break;
  expect(logs.map(({ readers }) => readers)).toEqual([0, 0]);

  const open: number[] = [];
  for await (const _item of followLines({ list: async () => logs, after: new Map(), nextLook: soon, signal })) {
    open.push(...logs.map(({ readers }) => readers));
    break;
  }
  expect(open).toEqual([1, 1]);
  expect(logs.map(({ readers }) => readers)).toEqual([0, 0]);
});

it('ends, and closes what it reads, when the signal aborts', async () => {
  const logs = [new FakeLog('a')];
  const controller = new AbortController();
  const following = Array.fromAsync(
    followLines({ list: async () => logs, after: new Map(), nextLook: soon, signal: controller.signal }),
  );
  await vi.waitFor(() => expect(logs[0]?.readers).toBe(1));
  controller.abort();
  expect(await following).toEqual([]);
  expect(logs[0]?.readers).toBe(0);
});

it('follows from the last line that is known, and replicas that come later from their first', async () => {
  const first = new FakeLog('a', [line(1), line(2), line(3)]);
  const later = new FakeLog('b', [line(4), line(5)]);
  const logs = [first];
  const after = new Map([['a', line(2).time]]);
  const texts: string[] = [];
  for await (const item of followLines({ list: async () => logs, after, nextLook: soon, signal })) {
    texts.push('text' in item ? item.text : 'missed');
    if (item === undefined || texts.at(-1) === '3') logs.push(later);
    if (texts.at(-1) === '5') break;
  }
  expect(texts).toEqual(['3', '4', '5']);
});

it('tells a slow reader in place of the lines how many it has missed, and goes on after them', async () => {
  const log = new FakeLog('a');
  const items: (LogLine | { missed: number })[] = [];
  const following = followLines({ list: async () => [log], after: new Map(), nextLook: soon, signal });
  setTimeout(() => log.print(line(0)), 5);
  for await (const item of following) {
    items.push(item);
    // It reads nothing while all of this is printed.
    if (items.length === 1) {
      log.print(...Array.from({ length: 5_000 }, (_, index) => line(index + 1)));
      await vi.waitFor(() => expect(log.readers).toBe(1));
      await delay(50);
    }
    if ('missed' in item) log.print(line(9_999));
    if ('text' in item && item.text === '9999') break;
  }
  const gaps = items.filter((item) => 'missed' in item);
  expect(gaps).toEqual([{ missed: 3_000 }]);
  expect(items).toHaveLength(1 + 2_000 + 1 + 1);
  expect(items.indexOf(gaps[0]!)).toBe(2_001);
});

it('lets lines that are not wanted take no place', async () => {
  const log = new FakeLog('a');
  const accepts = ({ text }: LogLine) => text === 'wanted';
  setTimeout(() => log.print(...Array.from({ length: 5_000 }, (_, index) => line(index)), line(9_999, 'wanted')), 5);
  for await (const item of followLines({
    list: async () => [log],
    after: new Map(),
    accepts,
    nextLook: soon,
    signal,
  })) {
    expect(item).toMatchObject({ text: 'wanted' });
    break;
  }
});

it('goes on when the engine was away', async () => {
  const log = new FakeLog('a', [line(1)]);
  const list = vi.fn(async () => [log]).mockRejectedValueOnce(new Error('away'));
  for await (const item of followLines({ list, after: new Map(), nextLook: soon, signal })) {
    expect(item).toMatchObject({ text: '1' });
    break;
  }
  expect(list.mock.calls.length).toBeGreaterThan(1);
});

it('reads the others when the machine of one replica is down, and says so when that is all of them', async () => {
  const down = Object.assign(new FakeLog('down'), {
    // oxlint-disable-next-line require-yield -- it never comes so far
    async *lines(): AsyncGenerator<PlainLine> {
      await soon();
      throw new Error('its node is down');
    },
  });
  const read = async (logs: readonly ReplicaLog[]) => {
    const found: string[] = [];
    for await (const { text } of newestLines(logs, { tail: 10, signal })) found.push(text);
    return found;
  };
  expect(await read([down, new FakeLog('up', [line(1), line(2)])])).toEqual(['1', '2']);
  await expect(read([down])).rejects.toThrow('its node is down');
});

it('follows lines whose times are earlier than those of lines before them', async () => {
  const log = new FakeLog('one', [line(1)]);
  const leaving = new AbortController();
  const found: string[] = [];
  const reading = (async () => {
    const after = new Map([['one', timeAt(new Date(1))]]);
    for await (const item of followLines({ list: () => Promise.resolve([log]), after, signal: leaving.signal })) {
      if ('text' in item) found.push(item.text);
    }
  })();
  await vi.waitFor(() => expect(log.readers).toBe(1));
  log.print(line(5), line(3), line(5));
  await vi.waitFor(() => expect(found).toEqual(['5', '3', '5']));
  leaving.abort();
  await reading;
});
