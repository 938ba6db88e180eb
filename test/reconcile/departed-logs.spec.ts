import type { LastWords } from '#libs/orchestrator/departures.js';
import { timeAt } from '#libs/orchestrator/replica-log.js';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { DepartedLogsRepository } from '../../apps/manager/src/logs/departed-logs.repository.js';
import { createSharedDatabase } from '../support/postgres.js';
import { Installation, newFunction } from './installation.js';

let here: Installation;
let departed: DepartedLogsRepository;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
  departed = new DepartedLogsRepository(here.database);
});
afterEach(() => here.reset());
afterAll(() => here.close());

async function added(): Promise<string> {
  return (await here.repository.insert(newFunction())).id;
}

function words(functionId: string, replica: string, ...texts: string[]): LastWords {
  const lines = texts.map((text, index) => ({ time: timeAt(new Date(0), index), stream: 'stdout' as const, text }));
  return { functionId, replica, revision: 1, lines };
}

async function textsOf(id: string): Promise<string[]> {
  return (await departed.of(id)).map(({ text }) => text);
}

it('gives back what a replica has said last, whatever characters are in it', async () => {
  const id = await added();
  await departed.keep(words(id, 'one', 'nul \0', 'half \ud83d', '💥 "quoted"'));
  expect(await departed.of(id)).toMatchObject([
    { replica: 'one', revision: 1, stream: 'stdout', text: 'nul \0' },
    { text: 'half \ud83d' },
    { text: '💥 "quoted"' },
  ]);
});

it('replaces what is written again, as by a manager that was killed in the middle', async () => {
  const id = await added();
  await Promise.all([departed.keep(words(id, 'one', 'early')), departed.keep(words(id, 'one', 'early', 'late'))]);
  await departed.keep(words(id, 'one', 'early', 'late'));
  expect(await textsOf(id)).toEqual(['early', 'late']);
});

it('keeps twenty replicas of a function, and a quarter of a MiB, but the newest whatever it is', async () => {
  const [many, large] = [await added(), await added()];
  for (let replica = 0; replica < 25; replica += 1) await departed.keep(words(many, `r${replica}`, `said ${replica}`));
  const said = await textsOf(many);
  expect(said).toHaveLength(20);
  expect(said).toContain('said 24');
  expect(said).not.toContain('said 4');
  for (const name of ['a', 'b', 'c', 'd', 'e']) await departed.keep(words(large, name, name.repeat(64 * 1024)));
  expect(new Set((await textsOf(large)).map((text) => text[0]))).toEqual(new Set(['c', 'd', 'e']));
  await departed.keep(words(large, 'huge', 'h'.repeat(300 * 1024)));
  expect((await textsOf(large)).map((text) => text[0])).toEqual(['h']);
});

it('keeps nothing of a function that is gone, and forgets all of it with the function', async () => {
  const id = await added();
  await Promise.all([departed.keep(words(id, 'one', 'x')), departed.keep(words('aaaaaaaaaaaaaaaa', 'one', 'x'))]);
  expect(await textsOf(id)).toEqual(['x']);
  expect(await textsOf('aaaaaaaaaaaaaaaa')).toEqual([]);
  await here.database.query('DELETE FROM functions WHERE id = $1', [id]);
  expect(await here.database.query('SELECT 1 FROM departed_logs')).toEqual([]);
});

it('forgets what is older than a week', async () => {
  const id = await added();
  await departed.keep(words(id, 'old', 'old'));
  await here.database.query(`UPDATE departed_logs SET departed_at = now() - interval '8 days'`);
  await departed.keep(words(id, 'new', 'new'));
  expect(await textsOf(id)).toEqual(['new']);
  await departed.forgetOld();
  expect(await here.database.query('SELECT replica FROM departed_logs')).toEqual([{ replica: 'new' }]);
});
