import { describe, expect, it } from 'vitest';
import { columnsOf, FunctionSpec, resolveSpec, SETTING_NAMES, specOf, type SpecPolicy } from './function-spec.js';

const DEFAULTS: FunctionSpec = {
  timeout_ms: 30_000,
  idle_timeout_ms: 600_000,
  min_replicas: 2,
  max_replicas: null,
  concurrency: 32,
  memory_mib: 512,
  cpu_millis: 1_000,
  env: {},
  secrets: {},
  requirements: null,
  handler_kind: 'auto',
};
const POLICY: SpecPolicy = {
  defaults: DEFAULTS,
  ceilings: (memoryMiB) => ({
    timeout_ms: { most: 60_000 },
    memory_mib: { most: 1_024, why: 'no more is allowed.' },
    min_replicas: { most: 2_048 / memoryMiB, why: 'there is no memory for more.' },
  }),
};

function refusalOf(asked: Partial<FunctionSpec>): unknown {
  try {
    return resolveSpec(asked, POLICY);
  } catch (error) {
    const { code, message, extras } = error as { code: string; message: string; extras: object };
    return { code, message, ...extras };
  }
}

describe('resolveSpec', () => {
  it('takes what was asked for, and the defaults of this installation for the rest', () => {
    expect(resolveSpec({}, POLICY)).toEqual(DEFAULTS);
    expect(resolveSpec({ timeout_ms: 60_000, max_replicas: 7 }, POLICY)).toEqual({
      ...DEFAULTS,
      timeout_ms: 60_000,
      max_replicas: 7,
    });
  });

  it('keeps no more replicas by default than there may be', () => {
    expect(resolveSpec({ max_replicas: 1 }, POLICY)).toMatchObject({ min_replicas: 1, max_replicas: 1 });
  });

  it.each([
    ['timeout_ms', 60_001, 'timeout_ms must be at most 60000.'],
    ['idle_timeout_ms', 2_147_483_648, 'idle_timeout_ms must be at most 2147483647.'],
    ['min_replicas', 5, 'min_replicas must be at most 4: there is no memory for more.'],
    ['max_replicas', 1_001, 'max_replicas must be at most 1000.'],
    ['concurrency', 1_001, 'concurrency must be at most 1000.'],
    ['memory_mib', 1_025, 'memory_mib must be at most 1024: no more is allowed.'],
    ['cpu_millis', 1_024_001, 'cpu_millis must be at most 1024000.'],
  ])('refuses %s above its limit, with both', (field, value, message) => {
    expect(refusalOf({ [field]: value })).toEqual({ code: 'invalid_upload', field, message });
  });

  it('goes by the memory that the replicas will have', () => {
    expect(resolveSpec({ memory_mib: 256, min_replicas: 8 }, POLICY)).toMatchObject({ min_replicas: 8 });
    expect(refusalOf({ memory_mib: 1_024, min_replicas: 3 })).toMatchObject({
      message: 'min_replicas must be at most 2: there is no memory for more.',
    });
  });

  it('refuses more replicas to keep than there may be', () => {
    expect(refusalOf({ min_replicas: 3, max_replicas: 2 })).toMatchObject({ field: 'min_replicas' });
  });
});

describe('The columns of a spec', () => {
  it('are all its settings, in the names of the row, and give it back', () => {
    expect(Object.keys(DEFAULTS).toSorted()).toEqual(SETTING_NAMES.toSorted());
    const columns = columnsOf(DEFAULTS);
    expect(columns).toEqual({
      timeoutMs: 30_000,
      idleTimeoutMs: 600_000,
      minReplicas: 2,
      maxReplicas: null,
      concurrency: 32,
      memoryMiB: 512,
      cpuMillis: 1_000,
      env: {},
      secrets: {},
      requirements: null,
      handlerKind: 'auto',
    });
    expect(specOf({ ...columns, ...{ id: 'more of the row' } })).toEqual(DEFAULTS);
  });
});
