import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Departures, type LastWords } from './departures.js';
import { type PlainLine, type ReplicaLog, timeAt } from './replica-log.js';

const ID = 'mfrggzdfmztwq2lk';

function logOf(replica: string, lines: readonly string[] | 'never'): ReplicaLog {
  return {
    replica,
    revision: 2,
    isOpen: false,
    async *lines(): AsyncGenerator<PlainLine> {
      if (lines === 'never') await new Promise(() => undefined);
      else for (const text of lines) yield { time: timeAt(new Date(0)), stream: 'stdout', text };
    },
  };
}

let departures: Departures;
let kept: LastWords[];
let leftOut: number;
beforeEach(() => {
  vi.useFakeTimers();
  departures = new Departures();
  kept = [];
  leftOut = 0;
  departures.onLeftOut = () => (leftOut += 1);
  departures.keepWith(async (words) => void kept.push(words));
});
afterEach(() => {
  vi.useRealTimers();
});

it('keeps the newest lines of a replica, 64 KiB of them', async () => {
  await departures.tell(ID, logOf('a', ['first', 'x'.repeat(60_000), 'y'.repeat(5_530), 'last']));
  expect(kept).toMatchObject([{ functionId: ID, replica: 'a', revision: 2 }]);
  expect(kept[0]?.lines.map(({ text }) => text.slice(0, 5))).toEqual(['xxxxx', 'yyyyy', 'last']);
  await departures.tell(ID, logOf('b', ['x'.repeat(70_000)]));
  expect(kept[1]?.lines).toHaveLength(1);
});

it('keeps nothing of a replica that has said nothing', async () => {
  await departures.tell(ID, logOf('a', []));
  expect(kept).toEqual([]);
});

it('reads nothing where nobody keeps it', async () => {
  await new Departures().tell(ID, logOf('a', 'never'));
});

it('lets a removal wait a second at most for an engine or a database that hangs', async () => {
  const told = departures.tell(ID, logOf('a', 'never'));
  await vi.advanceTimersByTimeAsync(1_001);
  await told;
  departures.keepWith(() => new Promise(() => undefined));
  const written = departures.tell(ID, logOf('b', ['x']));
  await vi.advanceTimersByTimeAsync(1_001);
  await written;
  expect(leftOut).toBe(2);
});

it('never fails: what can’t be read or kept is counted', async () => {
  departures.keepWith(() => Promise.reject(new Error('no database')));
  await departures.tell(ID, logOf('a', ['x']));
  expect(leftOut).toBe(1);
});

it('reads a few at once, and leaves out those that would wait too long', async () => {
  const hanging = Array.from({ length: 8 }, (_, index) => departures.tell(ID, logOf(`hanging-${index}`, 'never')));
  const waiting = Array.from({ length: 600 }, (_, index) => departures.tell(ID, logOf(`w-${index}`, ['x'])));
  await vi.advanceTimersByTimeAsync(500);
  expect(kept).toEqual([]);
  expect(leftOut).toBe(600 - 512);
  await vi.advanceTimersByTimeAsync(501);
  await Promise.all([...hanging, ...waiting]);
  expect(leftOut + kept.length).toBe(608);
  await departures.tell(ID, logOf('after', ['x']));
  expect(kept.at(-1)?.replica).toBe('after');
});
