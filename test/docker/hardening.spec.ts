import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { NO_POOL } from '#libs/config/config.js';
import type { Observed, Workload } from '#libs/orchestrator/workload.js';
import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dockerStage, endStage, python } from './support/docker-stage.js';
import { docker, POOL, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const PROBE = `import os
import socket


def status(field):
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(field + ":"))


def attempt(action):
    try:
        action()
        return "allowed"
    except OSError as error:
        return type(error).__name__


def connect(host, port):
    with socket.create_connection((host, int(port)), timeout=3):
        pass


def handle(payload: str):
    word, *rest = payload.split(" ")
    if word == "connect":
        return attempt(lambda: connect(*rest))
    if word == "write":
        return attempt(lambda: open(rest[0], "ab").close())
    if word == "remove":
        return attempt(lambda: os.unlink(rest[0]))
    if word == "exec":
        def run():
            with open("/tmp/script", "w") as script:
                script.write("#!/bin/sh\\ntrue\\n")
            os.chmod("/tmp/script", 0o755)
            os.execv("/tmp/script", ["/tmp/script"])
        return attempt(run)
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "capabilities": [status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "noNewPrivs": status("NoNewPrivs"),
        "seccomp": status("Seccomp"),
        "host": socket.gethostbyname(socket.gethostname()),
    }
`;

const reason = await whyNoDocker(WORKER_IMAGE);

const BIRTHS = [
  ['started with its function', NO_POOL],
  ['from the warm pool', POOL],
] as const;

describe.skipIf(reason !== undefined).each(BIRTHS)('a worker on Docker, %s, seen from inside', (_, pool) => {
  const config = testConfig();
  let stage: Stage;
  let workload: Workload;
  let seen: Observed;
  const ask = async (payload: string) => (await stage.call(seen.endpoints[0], payload)).body;

  beforeAll(async () => {
    stage = dockerStage(config, undefined, pool);
    workload = stage.workload(python(PROBE), { replicas: 2 });
    seen = await stage.settleReady(await stage.manager(), workload);
  });
  afterAll(() => endStage(stage));

  it('runs as nobody, without any capability or way to new ones', async () => {
    const none = '0000000000000000';
    expect(await ask('')).toMatchObject({
      result: {
        uid: 65532,
        gid: 65532,
        capabilities: [none, none, none, none, none],
        noNewPrivs: '1',
        seccomp: '2',
      },
    });
  });

  it.each(['/app/x', '/etc/passwd', '/usr/x', '/opt/worker/x'])('cannot write %s', async (path) => {
    expect(await ask(`write ${path}`)).not.toEqual({ result: 'allowed' });
  });

  it('can write to /tmp, but not execute what it wrote', async () => {
    expect(await ask('write /tmp/x')).toEqual({ result: 'allowed' });
    expect(await ask('exec')).toEqual({ result: 'PermissionError' });
  });

  it('cannot change its own code', async () => {
    expect(await ask('write /app/function/handler.py')).toEqual({ result: 'PermissionError' });
    expect(await ask('remove /app/function/handler.py')).toEqual({ result: 'PermissionError' });
    expect(await ask('write /app/function/other.py')).toEqual({ result: 'PermissionError' });
  });

  it('cannot reach another worker', async () => {
    const other = await docker.getContainer(seen.endpoints[1]?.replica ?? '').inspect();
    const address = other.NetworkSettings.Networks[config.network]?.IPAddress;
    expect(address).toMatch(/^\d+\./);
    expect(await ask('connect 127.0.0.1 8000')).toEqual({ result: 'allowed' });
    expect(await ask(`connect ${address} 8000`)).not.toEqual({ result: 'allowed' });
  });

  it('cannot reach what listens on the machine’s loopback', async () => {
    const { NetworkSettings: settings } = await docker.getContainer(seen.primary).inspect();
    const gateway = settings.Networks[config.network]?.Gateway;
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    expect(await ask(`connect ${gateway} ${port}`)).not.toEqual({ result: 'allowed' });
    server.close();
  });

  it('is not published where it is reached by its own address', async () => {
    const { NetworkSettings: settings } = await docker.getContainer(seen.primary).inspect();
    const isReachedByAddress = seen.endpoints[0]?.address.kind === 'tcp' && seen.endpoints[0].address.port === 8000;
    expect(settings.Ports['8000/tcp'] === null).toBe(isReachedByAddress);
    expect(seen.hostPort === 0).toBe(isReachedByAddress);
  });

  it('has the limits the workload asks for', async () => {
    const { HostConfig: host, Config: container } = await docker.getContainer(seen.primary).inspect();
    expect(host).toMatchObject({
      Memory: 256 * 2 ** 20,
      MemorySwap: 256 * 2 ** 20,
      NanoCpus: 500_000_000,
      PidsLimit: 64,
      ReadonlyRootfs: true,
      Privileged: false,
      OomKillDisable: false,
      RestartPolicy: { Name: 'no' },
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges', expect.stringMatching(/^seccomp=\{"defaultAction":"SCMP_ACT_ERRNO"/)],
      LogConfig: { Type: 'json-file', Config: { mode: 'non-blocking', 'max-size': '5m', 'max-file': '2' } },
    });
    expect(container.User).toBe('65532:65532');
    expect(container.Image).toBe(config.image);
    expect(host.Binds ?? []).toEqual([]);
  });
});
