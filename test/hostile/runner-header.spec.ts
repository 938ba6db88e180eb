import { expect, it } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { ANSWERING } from './support/handlers.js';
import { Victim } from './support/victim.js';

const CALLS = 3_000;

describeOnProcesses('a worker that answers as another runner each time', (engine) => {
  const victim = Victim.on(engine);

  it('leaves nothing of that in the manager, and its calls are still answered', async () => {
    const id = await victim.add(ANSWERING, { concurrency: '8', max_replicas: '1' });
    const statuses = new Set<number>();
    for (let call = 0; call < CALLS; call += 8) {
      const answers = await Promise.all(Array.from({ length: 8 }, () => victim.call(id, 'runner')));
      for (const { status } of answers) statuses.add(status);
    }
    expect([...statuses]).toEqual([200]);
    await victim.expectSmall(8);
    await victim.expectUnharmed();
  });
});
