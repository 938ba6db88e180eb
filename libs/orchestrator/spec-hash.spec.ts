import { describe, expect, it } from 'vitest';
import { specHash } from './spec-hash.js';
import type { Workload } from './workload.js';

const unasked = () => Promise.reject(new Error('not asked for'));

const WORKLOAD: Workload = {
  functionId: 'aaaaaaaaaaaaaaaa',
  revision: 1,
  functionName: 'handle',
  code: Buffer.from('code'),
  codeSha256: 'sha',
  replicas: 1,
  limits: { timeoutMs: 1, concurrency: 2, memoryMiB: 3, cpuMillis: 4, pids: 5 },
};

describe('specHash', () => {
  it('is the same for the same spec, whatever the count, the backoff and the order of the engine’s facts', () => {
    const hash = specHash(WORKLOAD, { image: 'i', network: 'n' });
    expect(hash).toMatch(/^[0-9a-f]{16}$/);
    const other = {
      ...WORKLOAD,
      code: Buffer.from('code'),
      replicas: 9,
      replaceEndedFrom: new Date(),
      startsNone: true,
    };
    expect(specHash(other, { network: 'n', image: 'i' })).toBe(hash);
  });

  it('never changes between versions, which would restart every worker', () => {
    expect(specHash(WORKLOAD)).toMatchInlineSnapshot(`"3d23aa5c830de17c"`);
    expect(specHash({ ...WORKLOAD, environment: {} })).toBe(specHash(WORKLOAD));
    const [one, other] = [
      { A: '1', B: '2' },
      { B: '2', A: '1' },
    ];
    expect(specHash({ ...WORKLOAD, environment: one })).toBe(specHash({ ...WORKLOAD, environment: other }));
  });

  it('tells nothing of a secret’s value', () => {
    const [one, other] = ['a', 'b'].map((value) =>
      specHash({ ...WORKLOAD, secrets: { variables: { A: value }, files: { f: value }, digest: 'same' } }),
    );
    expect(one).toBe(other);
  });

  it('changes with everything that makes a replica another one', () => {
    const { limits } = WORKLOAD;
    const variants: Workload[] = [
      { ...WORKLOAD, functionId: 'b' },
      { ...WORKLOAD, revision: 2 },
      { ...WORKLOAD, functionName: 'other' },
      { ...WORKLOAD, codeSha256: 'other' },
      { ...WORKLOAD, environment: { A: '1' } },
      { ...WORKLOAD, environment: { A: '2' } },
      { ...WORKLOAD, environment: { B: '1' } },
      { ...WORKLOAD, secrets: { variables: {}, files: {}, digest: 'one' } },
      { ...WORKLOAD, secrets: { variables: {}, files: {}, digest: 'two' } },
      { ...WORKLOAD, layer: { digest: 'a', open: unasked, describe: unasked } },
      ...Object.keys(limits).map((limit) => ({ ...WORKLOAD, limits: { ...limits, [limit]: 99 } })),
    ];
    const hashes = [WORKLOAD, ...variants].map((workload) => specHash(workload));
    hashes.push(specHash(WORKLOAD, { image: 'one' }), specHash(WORKLOAD, { image: 'two' }));
    expect(new Set(hashes).size).toBe(hashes.length);
  });
});
