import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { afterEach, expect, it, vi } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { expectProblem } from '../support/http.js';
import { ANSWERING } from './support/handlers.js';
import { Victim } from './support/victim.js';

const MIB = 1024 * 1024;
const BUDGET_MIB = 64;
const FILE_MIB = 5;
const MOST_HELD_MIB = 64;

describeOnProcesses('answers that nobody reads', (engine) => {
  const victim = Victim.on(engine, { MAX_HELD_BYTES: String(BUDGET_MIB * MIB) });
  const open: IncomingMessage[] = [];
  afterEach(() => {
    for (const answer of open.splice(0)) answer.destroy();
  });
  /** Asks and reads the head of the answer alone. */
  const ask = async (path: string, payload?: string): Promise<IncomingMessage> => {
    const method = payload === undefined ? 'GET' : 'POST';
    const asked = request({ port: victim.port, host: '127.0.0.1', path, method, agent: false });
    asked.on('error', () => undefined).end(payload === undefined ? undefined : JSON.stringify({ payload }));
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    answer.on('error', () => undefined);
    open.push(answer);
    return answer;
  };
  const lengthOf = async (answer: IncomingMessage): Promise<number> => {
    let length = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) length += chunk.length;
    return length;
  };

  it('of calls are left where they are, and come whole when they are read', async () => {
    const id = await victim.add(ANSWERING, { concurrency: '20', max_replicas: '1' });
    const answers = await Promise.all(Array.from({ length: 12 }, () => ask(`/functions/${id}/execute`, 'result 60')));
    expect(answers.map(({ statusCode }) => statusCode)).toEqual(Array.from({ length: 12 }, () => 200));
    await victim.slowest(50);
    await victim.expectSmall(MOST_HELD_MIB);
    const whole = 60 * MIB + '{"result":""}'.length;
    expect(answers.map(({ headers }) => headers['content-length'])).toEqual(answers.map(() => String(whole)));
    expect(await Promise.all(answers.slice(0, 4).map(lengthOf))).toEqual([whole, whole, whole, whole]);
    for (const answer of answers) answer.destroy();
    await victim.expectUnharmed();
  });

  it('of the code of a function count, and are refused when there are too many', async () => {
    const id = await victim.add(`${'#'.repeat(FILE_MIB * MIB)}\ndef handle(payload):\n    return payload\n`);
    const answers = await Promise.all(Array.from({ length: 60 }, () => ask(`/functions/${id}/code`)));
    const served = answers.filter(({ statusCode }) => statusCode === 200);
    expect(served.length).toBeGreaterThan(0);
    expect(served.length).toBeLessThanOrEqual(BUDGET_MIB / FILE_MIB);
    for (const refused of answers.filter((answer) => !served.includes(answer))) expect(refused.statusCode).toBe(429);
    await victim.expectSmall(MOST_HELD_MIB);
    expect(await lengthOf(served[0]!)).toBeGreaterThan(FILE_MIB * MIB);
    for (const answer of answers) answer.destroy();
    await vi.waitFor(async () => expect((await victim.send(`/functions/${id}/code`)).status).toBe(200), {
      timeout: 10_000,
    });
    await victim.expectUnharmed();
  });

  it('say why the manager gave them up', async () => {
    const id = await victim.add(ANSWERING);
    const problem = expectProblem(await victim.call(id, 'result 65'), 502, 'worker_crashed');
    expect(problem.detail).toBe("The manager gave up the worker's answer: its answer passed 67108864 bytes.");
    await victim.expectUnharmed();
  });

  it('can be told from whole ones when they break off', async () => {
    const id = await victim.add(ANSWERING);
    const large = await ask(`/functions/${id}/execute`, 'cut 20');
    expect(large.statusCode).toBe(200);
    await expect(lengthOf(large)).rejects.toMatchObject({ code: 'ECONNRESET' });
    expectProblem(await victim.call(id, 'cut 0'), 502, 'worker_crashed');
    await victim.expectUnharmed();
  });
});
