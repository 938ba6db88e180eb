import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import type { Observed, WorkloadSecrets } from '../workload.js';
import { CONFIDING } from './contract.handlers.js';
import { replicaIds } from './contract.replicas.js';
import type { Stage } from './contract.stage.js';

function secretsOf(value: string): WorkloadSecrets {
  const digest = createHash('sha256').update(value).digest('hex').slice(0, 16);
  return {
    variables: { TOKEN: `variable ${value}`, OTHER: '$(TOKEN)' },
    files: { 'tls.pem': `file\n${value}\n` },
    digest,
  };
}

export function secretBehaviour(stage: () => Stage): void {
  it('hands secrets to the handler, as variables and as files', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(CONFIDING, { secrets: secretsOf('one') });
    const seen = await stage().settleReady(manager, workload);
    const result = async (payload: string) => (await stage().call(seen.endpoints[0], payload)).body;
    expect(await result('TOKEN')).toEqual({ result: 'variable one' });
    expect(await result('OTHER')).toEqual({ result: '$(TOKEN)' });
    expect(await result('tls.pem')).toEqual({ result: 'file\none\n' });
  });

  it('replaces replicas when a secret changes, with an endpoint that answers at every moment', async () => {
    const manager = await stage().manager();
    const former = stage().workload(CONFIDING, { secrets: secretsOf('one') });
    const before = await stage().settleReady(manager, former);
    const again = await stage().ensure(manager, { ...former, secrets: secretsOf('one') });
    expect(replicaIds(again)).toEqual(replicaIds(before));

    const next = { ...former, secrets: secretsOf('two') };
    const answers = new Set<string>();
    await stage().until(
      'the new value alone is there',
      async () => {
        const observed = await stage().ensure(manager, next);
        expect(observed.endpoints.length).toBeGreaterThan(0);
        for (const endpoint of observed.endpoints) {
          const { body } = await stage().call(endpoint, 'tls.pem');
          answers.add((body as { result: string }).result);
        }
        return observed;
      },
      (observed: Observed) => observed.ready === 1 && observed.isUnfinished !== true && !sharesOne(observed, before),
    );
    expect([...answers].every((answer) => ['file\none\n', 'file\ntwo\n'].includes(answer))).toBe(true);
    expect(answers).toContain('file\ntwo\n');
    await Promise.all(before.endpoints.map((endpoint) => stage().untilGone(endpoint)));
  });

  it('takes secrets away from a function that has none any more', async () => {
    const manager = await stage().manager();
    const former = stage().workload(CONFIDING, { secrets: secretsOf('one') });
    const before = await stage().settleReady(manager, former);
    const { secrets: _, ...next } = former;
    const after = await stage().settle(
      manager,
      next,
      (seen) => seen.ready === 1 && seen.endpoints.length === 1 && !sharesOne(seen, before),
    );
    const { body, status } = await stage().call(after.endpoints[0], 'TOKEN');
    expect(JSON.stringify([body, status])).not.toContain('variable one');
  });
}

function sharesOne(one: Observed, other: Observed): boolean {
  return replicaIds(one).some((replica) => replicaIds(other).includes(replica));
}
