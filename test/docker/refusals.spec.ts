import { execFileSync } from 'node:child_process';
import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { containersOf, dockerStage, endStage, python } from './support/docker-stage.js';
import { docker, openDocker, removeNetwork, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const ECHO = python('def handle(payload: str):\n    return payload\n');
const reason = await whyNoDocker(WORKER_IMAGE);

describe.skipIf(reason !== undefined)('Docker provider: what the engine refuses', { timeout: 60_000 }, () => {
  let stage: Stage;
  afterEach(() => endStage(stage));

  it('says that a container of somebody else holds the name, and touches nothing', async () => {
    stage = dockerStage(testConfig());
    const workload = stage.workload(ECHO);
    const foreign = await docker.createContainer({ name: `faas-worker-${workload.functionId}`, Image: WORKER_IMAGE });
    try {
      const manager = await stage.manager();
      const seen = await stage.ensure(manager, workload);
      expect(seen).toMatchObject({ replicas: 0, ready: 0, reason: { code: 'rejected', terminal: false } });
      expect(seen.reason?.message).toContain(`faas-worker-${workload.functionId}`);
      expect((await foreign.inspect()).State.Status).toBe('created');
      await stage.remove(manager, workload.functionId);
      expect((await foreign.inspect()).State.Status).toBe('created');
      await foreign.remove({ force: true });
      await stage.settleReady(manager, workload);
    } finally {
      await foreign.remove({ force: true }).catch(() => undefined);
    }
  });

  it('says why an image can’t be had, without the registry’s password', async () => {
    const registry = { url: 'http://127.0.0.1:9', username: 'robot', password: 'not-to-be-seen' };
    stage = dockerStage(testConfig({ image: '127.0.0.1:9/nobody/nothing:1', registry }));
    const manager = await stage.manager();
    const workload = stage.workload(ECHO);
    const watching = stage.watch(manager);
    const hint = watching.hint(workload.functionId);
    const first = await stage.ensure(manager, workload);
    expect(first.reason).toMatchObject({ code: 'starting' });
    expect(first.reason?.message).toContain('Pulling');
    await hint;
    const { reason: fault } = await stage.ensure(manager, workload);
    expect(fault).toMatchObject({ code: 'image_unavailable', terminal: false });
    expect(fault?.message).toContain('127.0.0.1:9/nobody/nothing:1');
    expect(fault?.message).toMatch(/refused|connect/);
    expect(JSON.stringify(fault)).not.toContain('not-to-be-seen');
    expect(await containersOf(stage.owner)).toEqual([]);
  });

  it('tells what the engine says of limits it can’t give, and leaves nothing half-made', async () => {
    stage = dockerStage(testConfig());
    const manager = await stage.manager();
    const limits = { ...stage.workload(ECHO).limits, cpuMillis: 10_000_000 };
    const seen = await stage.ensure(manager, stage.workload(ECHO, { limits }));
    expect(seen.reason).toMatchObject({ code: 'rejected', terminal: false });
    expect(seen.reason?.message).toContain('CPU');
    expect(await containersOf(stage.owner)).toEqual([]);
  });

  it('runs workers with the runtime that is configured, replaces those of another, and names one it lacks', async () => {
    const { DefaultRuntime: usual } = (await docker.info()) as { DefaultRuntime: string };
    const config = testConfig();
    stage = dockerStage(config);
    const workload = stage.workload(ECHO);
    const byDefault = await stage.settleReady(await stage.manager(), workload);
    Object.assign(config, { runtime: usual });
    const byName = await stage.settleReady(await stage.manager(), workload);
    expect(byName.primary).not.toBe(byDefault.primary);
    expect((await docker.getContainer(byName.primary).inspect()).HostConfig.Runtime).toBe(usual);
    Object.assign(config, { runtime: 'no-such-runtime' });
    const manager = await stage.manager();
    await vi.waitFor(async () => {
      const { reason: fault, endpoints } = await stage.ensure(manager, workload);
      expect(fault).toMatchObject({ code: 'rejected', message: expect.stringContaining('no-such-runtime') as unknown });
      expect(endpoints.map(({ replica }) => replica)).toEqual([byName.primary]);
    });
  });

  it('refuses a network that lets workers reach each other', async () => {
    const config = testConfig();
    stage = dockerStage(config);
    await docker.createNetwork({ Name: config.network, Driver: 'bridge' });
    const manager = await stage.manager();
    const workload = stage.workload(ECHO);
    const seen = await stage.ensure(manager, workload);
    expect(seen.reason).toMatchObject({ code: 'rejected' });
    expect(seen.reason?.message).toContain('lets workers reach each other');
    await removeNetwork(config.network);
    await stage.settleReady(manager, workload);
  });

  it('makes its network again when it was removed', async () => {
    const config = testConfig();
    stage = dockerStage(config);
    const manager = await stage.manager();
    const workload = stage.workload(ECHO);
    await stage.settleReady(manager, workload);
    await stage.settleReady(manager, { ...workload, replicas: 0 });
    await stage.until(
      'the replica is gone',
      () => containersOf(stage.owner),
      (left) => left.length === 0,
    );
    await removeNetwork(config.network);
    await stage.settleReady(manager, workload);
  });

  it.each(['published', 'address'] as const)('calls workers when they are reached by %s', async (reach) => {
    stage = dockerStage(testConfig({ reach }));
    const seen = await stage.settleReady(await stage.manager(), stage.workload(ECHO));
    const address = seen.endpoints[0]?.address;
    expect(address).toMatchObject(reach === 'published' ? { host: '127.0.0.1', port: seen.hostPort } : { port: 8000 });
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'x' });
    const { Ports: ports } = (await docker.getContainer(seen.primary).inspect()).NetworkSettings;
    // One that is published is let through by the engine from every network that routes to it.
    if (reach === 'address') expect(ports['8000/tcp']).toBeNull();
    else expect(ports['8000/tcp']).toEqual([{ HostIp: '127.0.0.1', HostPort: String(seen.hostPort) }]);
    expect(listenersOn(seen.hostPort).filter((address) => address !== LOOPBACK)).toEqual([]);
  });

  it('replaces workers that another way to reach them has left without a port', async () => {
    const config = testConfig({ reach: 'address' });
    stage = dockerStage(config);
    const workload = stage.workload(ECHO);
    const before = await stage.settleReady(await stage.manager(), workload);
    const moved = openDocker({ ...config, reach: 'published' }, stage.owner);
    try {
      const seen = await stage.settle(moved, workload, ({ endpoints }) => endpoints.length === 1);
      expect(seen.primary).not.toBe(before.primary);
      expect(seen.hostPort).toBeGreaterThan(0);
      expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'x' });
    } finally {
      await moved.close();
    }
  });

  it('runs workers without a route out', async () => {
    stage = dockerStage(testConfig({ internal: true }));
    const source = `import socket


def handle(payload: str):
    try:
        socket.create_connection(("1.1.1.1", 53), timeout=2).close()
        return "out"
    except OSError:
        return "kept in"
`;
    const seen = await stage.settleReady(await stage.manager(), stage.workload(python(source)));
    expect(seen.hostPort).toBe(0);
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'kept in' });
  });
});

const LOOPBACK = '0100007F';

/** Who listens on a port of this machine, as the kernel writes addresses. */
function listenersOn(port: number): (string | undefined)[] {
  const listening = execFileSync('cat', ['/proc/net/tcp', '/proc/net/tcp6'], { encoding: 'utf8' });
  const shown = port.toString(16).toUpperCase().padStart(4, '0');
  return [...listening.matchAll(new RegExp(`: ([0-9A-F]+):${shown} \\S+ 0A`, 'g'))].map(([, address]) => address);
}
