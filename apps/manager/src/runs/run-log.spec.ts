import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { expect, it } from 'vitest';
import { RunLog } from './run-log.js';

it('is looked at less and less often while its end is missing', async () => {
  let looks = 0;
  const orchestrator: Partial<Orchestrator> = {
    logs: () => {
      looks += 1;
      return Promise.resolve([]);
    },
  };
  expect(await new RunLog(orchestrator as Orchestrator).of('aaaaaaaaaaaaaaaa', 'a-request', 1_000)).toEqual([]);
  expect(looks).toBeGreaterThan(2);
  expect(looks).toBeLessThan(30);
});
