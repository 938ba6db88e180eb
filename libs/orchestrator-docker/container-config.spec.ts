import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Workload } from '#libs/orchestrator/workload.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { containerConfig, genericConfig, type Own, type Placement } from './container-config.js';

const WORKLOAD: Workload = {
  functionId: 'abcdefghijklmnop',
  revision: 7,
  functionName: 'greet',
  code: Buffer.from('def greet(payload): ...'),
  codeSha256: '0'.repeat(64),
  replicas: 1,
  limits: { timeoutMs: 1_500, concurrency: 4, memoryMiB: 128, cpuMillis: 250, pids: 32 },
};
const PLACEMENT: Placement = { owner: 'me', image: 'worker:1', network: 'workers', runtime: '' };
const CALL = TEST_TOKENS.issue('some nonce');
const OWN: Own = { spec: 'hash', volume: 'code', reach: 'address', call: CALL, seccomp: '{"of":"test"}' };

describe('containerConfig', () => {
  it('tells the worker what it serves and how long', () => {
    const { Env } = containerConfig(WORKLOAD, PLACEMENT, OWN);
    expect(Env).toEqual(
      expect.arrayContaining(['HANDLER_FUNCTION=function.handler.greet', 'FAAS_TIMEOUT_MS=1500', 'FAAS_CONCURRENCY=4']),
    );
  });

  it('labels the container with whose it is and what it was made from', () => {
    expect(containerConfig(WORKLOAD, PLACEMENT, OWN).Labels).toEqual({
      'faas.owner': 'me',
      'faas.function': 'abcdefghijklmnop',
      'faas.revision': '7',
      'faas.spec': 'hash',
      'faas.credential': 'some nonce',
    });
  });

  it('tells the worker the digest of its token, and nobody the token', () => {
    const configs = [
      containerConfig(WORKLOAD, PLACEMENT, OWN),
      genericConfig(PLACEMENT, WORKLOAD.limits, 'f'.repeat(64), 30_000, OWN),
    ];
    for (const config of configs) {
      expect(config.Env).toContain(`FAAS_CALL_SHA256=${CALL.sha256}`);
      expect(config.Labels?.['faas.credential']).toBe('some nonce');
      expect(JSON.stringify(config)).not.toContain(CALL.token);
    }
  });

  it('gives the grace of a whole call, in whole seconds', () => {
    expect(containerConfig(WORKLOAD, PLACEMENT, OWN).StopTimeout).toBe(2);
  });

  it('publishes its port where it is reached by that, and on loopback only', () => {
    const ports = { '8000/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] };
    const published = { ...OWN, reach: 'published' } as const;
    expect(containerConfig(WORKLOAD, PLACEMENT, published).HostConfig?.PortBindings).toEqual(ports);
    expect(containerConfig(WORKLOAD, PLACEMENT, OWN).HostConfig?.PortBindings).toEqual({});
  });

  it('leaves the filter of system calls to the engine where it is given none', () => {
    const { HostConfig: host } = containerConfig(WORKLOAD, PLACEMENT, { ...OWN, seccomp: undefined });
    expect(host?.SecurityOpt).toEqual(['no-new-privileges']);
    const generic = genericConfig(PLACEMENT, WORKLOAD.limits, 'f'.repeat(64), 30_000, { ...OWN, seccomp: undefined });
    expect(generic.HostConfig?.SecurityOpt).toEqual(['no-new-privileges']);
  });

  it('names a runtime only where one is configured', () => {
    const runtimes = ['', 'crun'].map((runtime) => containerConfig(WORKLOAD, { ...PLACEMENT, runtime }, OWN));
    expect(runtimes.map(({ HostConfig }) => HostConfig?.Runtime)).toEqual([undefined, 'crun']);
  });

  it('gives layers, for reading alone, to those who may have one', () => {
    const placement = { ...PLACEMENT, layers: 'the-layers' };
    const mount = { Type: 'volume', Source: 'the-layers', Target: '/layers', ReadOnly: true };
    const generic = genericConfig(placement, WORKLOAD.limits, 'f'.repeat(64), 30_000, OWN);
    expect(generic.HostConfig?.Mounts).toMatchObject([mount]);
    expect(containerConfig(WORKLOAD, placement, OWN).HostConfig?.Mounts).toHaveLength(1);
    const unasked = () => Promise.reject(new Error('not asked for'));
    const layer = { digest: 'd'.repeat(64), open: unasked, describe: unasked };
    const { HostConfig: host, Env } = containerConfig({ ...WORKLOAD, layer }, placement, OWN);
    expect(host?.Mounts?.[1]).toMatchObject(mount);
    expect(Env).toContain(`FAAS_LAYER=/layers/${'d'.repeat(64)}`);
  });

  it('bounds what the kernel counts for each process, and lets nobody raise it', () => {
    const { HostConfig: host } = containerConfig(WORKLOAD, PLACEMENT, OWN);
    const limits = host?.Ulimits ?? [];
    expect(new Set(limits.map(({ Name }) => Name))).toEqual(
      new Set(['core', 'nofile', 'memlock', 'msgqueue', 'sigpending']),
    );
    for (const { Soft, Hard } of limits) expect(Soft).toBe(Hard);
    const descriptors = limits.find(({ Name }) => Name === 'nofile')?.Hard;
    // Room for the largest concurrency, each call with a connection of its own and those of two managers; and a fraction
    // of what eight processes could take without a limit.
    expect(descriptors).toBeGreaterThan(3 * 1_000);
    expect(8 * (descriptors ?? Infinity)).toBeLessThan(160_000 / 4);
  });

  it('isolates every workload alike and never names a host path', () => {
    const limits = fc.record({
      timeoutMs: fc.integer({ min: 1, max: 3_600_000 }),
      concurrency: fc.integer({ min: 1, max: 1_000 }),
      memoryMiB: fc.integer({ min: 32, max: 1_048_576 }),
      cpuMillis: fc.integer({ min: 10, max: 1_024_000 }),
      pids: fc.integer({ min: 16, max: 32_768 }),
    });
    fc.assert(
      fc.property(limits, fc.boolean(), (some, isPublished) => {
        const own: Own = { ...OWN, reach: isPublished ? 'published' : 'address' };
        const { HostConfig: host, User } = containerConfig({ ...WORKLOAD, limits: some }, PLACEMENT, own);
        const generic = genericConfig(PLACEMENT, some, 'f'.repeat(64), 30_000, own);
        expect(generic.User).toBe(User);
        const { Tmpfs, Mounts: _, ...rest } = host ?? {};
        expect(generic.HostConfig).toMatchObject(rest);
        expect(generic.HostConfig?.Tmpfs).toMatchObject({ ...Tmpfs });
        expect(generic.HostConfig?.Mounts).toBeUndefined();
        expect(User).toBe('65532:65532');
        expect(host).toMatchObject({
          Privileged: false,
          ReadonlyRootfs: true,
          CapDrop: ['ALL'],
          SecurityOpt: ['no-new-privileges', 'seccomp={"of":"test"}'],
          IpcMode: 'private',
          RestartPolicy: { Name: 'no' },
        });
        expect(host?.Memory).toBe(some.memoryMiB * 2 ** 20);
        expect(host?.MemorySwap).toBe(host?.Memory);
        expect(host?.NanoCpus).toBe(some.cpuMillis * 1e6);
        expect(host?.PidsLimit).toBe(some.pids);
        expect(host?.Binds).toBeUndefined();
        expect(host?.Mounts?.map(({ Type, Source }) => [Type, Source])).toEqual([['volume', 'code']]);
      }),
    );
  });
});
