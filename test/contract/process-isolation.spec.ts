import { rmSync } from 'node:fs';
import { readdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import type { ReplicaRecord } from '#libs/orchestrator-process/replica-store.js';
import { ProcessOrchestrator } from '#libs/orchestrator-process/process.orchestrator.js';
import { answering, type ContractHandler } from '#libs/orchestrator/testing/contract.handlers.js';
import { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { processHarness, WARM } from './support/process-harness.js';

const asRoot = process.geteuid?.() === 0;
const cold = processHarness();
const { runtimeDir, config } = cold;
const warm = processHarness(WARM, runtimeDir);
const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
let stage: Stage;

beforeEach(() => {
  stage = new Stage(cold, {});
});
afterEach(() => stage.close());
afterAll(() => rmSync(runtimeDir, { recursive: true, force: true }));

function handler(body: string): ContractHandler {
  return { functionName: 'handle', source: `import json, os, signal, sys, time\n\n\ndef handle(payload):\n${body}` };
}

async function recordPath(replica: string): Promise<string> {
  const paths = await readdir(runtimeDir, { recursive: true });
  const path = paths.find((name) => name.endsWith(join(...replica.split('-'), 'record.json')));
  if (path === undefined) throw new Error(`There is no replica ${replica}.`);
  return join(runtimeDir, path);
}

async function recordOf(replica = ''): Promise<ReplicaRecord> {
  return JSON.parse(await readFile(await recordPath(replica), 'utf8')) as ReplicaRecord;
}

async function resultOf(body: string, payload = ''): Promise<unknown> {
  const manager = await stage.manager();
  const seen = await stage.settleReady(manager, stage.workload(handler(body)));
  return ((await stage.call(seen.endpoints[0], payload)).body as { result: unknown }).result;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function ping(changes: Partial<typeof config>): Promise<void> {
  return new ProcessOrchestrator({ ...config, ...changes }, 'owner', TEST_TOKENS, logger).ping(stage.signal());
}

describe('workers and their managers', () => {
  it('finds a worker whose manager was killed before it could note the pid', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const before = await stage.settleReady(manager, workload);
    const record = await recordOf(before.endpoints[0]?.replica);
    const { process: _, ...unnoted } = record;
    await writeFile(await recordPath(record.replica), JSON.stringify(unnoted));

    const successor = await stage.restart(manager);
    const after = await stage.ensure(successor, workload);
    expect(after.endpoints).toEqual(before.endpoints);
    expect((await recordOf(record.replica)).process).toEqual(record.process);
  });

  it('does not take another process for a worker because it has the same pid', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const before = await stage.settleReady(manager, workload);
    const record = await recordOf(before.endpoints[0]?.replica);
    const successor = await stage.restart(manager);
    const mistaken = { ...record, process: { pid: process.pid, startTime: record.process?.startTime } };
    await writeFile(await recordPath(record.replica), JSON.stringify(mistaken));
    const after = await stage.settleReady(successor, workload);
    expect(after.endpoints[0]?.replica).not.toBe(record.replica);
    const former = record.process?.pid ?? 0;
    // As root by its user; else nobody knows any more whose it is.
    if (!asRoot) process.kill(former, 'SIGKILL');
    await stage.until(
      'the former worker is gone',
      async () => isRunning(former),
      (running) => !running,
    );
  });

  it('ends everything a function has started, also what left its session', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(
      handler(`    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        # Written here, as the daemon may be ended as soon as it is an orphan.
        os.write(write, str(daemon).encode())
        os._exit(0)
    return int(os.read(read, 32))
`),
    );
    const seen = await stage.settleReady(manager, workload);
    const { body } = await stage.call(seen.endpoints[0], '');
    const pid = (body as { result: number }).result;
    expect(pid).toBeGreaterThan(1);
    await stage.remove(manager, workload.functionId);
    await stage.until(
      'the daemon is gone',
      async () => isRunning(pid),
      (running) => !running,
    );
  });
});

const BIRTHS = [
  ['started with its function', cold],
  ['from the warm pool', warm],
] as const;

describe.each(BIRTHS)('what a worker %s gets to see', (_, harness) => {
  beforeEach(() => {
    stage = new Stage(harness, { deadlineMs: 60_000 });
  });

  it('gives it nothing of the environment of the manager', async () => {
    process.env['A_SECRET_OF_THE_MANAGER'] = 'x';
    const names = (await resultOf('    return sorted(os.environ)\n')) as string[];
    expect(names).not.toContain('A_SECRET_OF_THE_MANAGER');
    for (const name of names)
      expect(name).toMatch(
        /^(FAAS_|PYTHON|LD_LIBRARY_PATH$|(HANDLER_FUNCTION|HOME|LANG|LC_CTYPE|LOGNAME|PATH|TMPDIR|USER)$)/,
      );
  });

  it.runIf(asRoot)('runs each replica as a user of its own, without groups', async () => {
    const body = '    return [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]\n';
    const [one, other] = [(await resultOf(body)) as number[], (await resultOf(body)) as number[]];
    const [uid = 0, effective, gid, groups] = one;
    expect(uid).toBeGreaterThanOrEqual(30_000);
    expect([effective, gid, groups]).toEqual([uid, uid, []]);
    expect(other[0]).not.toBe(uid);
  });

  it.runIf(asRoot)('keeps functions out of the files and sockets of others', async () => {
    const manager = await stage.manager();
    const victim = await stage.settleReady(manager, stage.workload(answering('victim')));
    const record = await recordOf(victim.endpoints[0]?.replica);
    const folder = (await recordPath(record.replica)).replace(/\/record\.json$/, '');
    const attempts = (await resultOf(
      `    import socket
    folder, pid = payload.split(":")
    def code(): open(folder + "/app/function/handler.py").read()
    def connect(): socket.socket(socket.AF_UNIX).connect(folder + "/w/s")
    def listing(): os.listdir(os.path.dirname(os.path.dirname(folder)))
    def kill(): os.kill(int(pid), 0)
    def environ(): open("/proc/" + pid + "/environ").read()
    def own(): open(os.environ["FAAS_APP_DIR"] + "/function/handler.py", "a")
    seen = {}
    for attempt in (code, connect, listing, kill, environ, own):
        try:
            attempt()
            seen[attempt.__name__] = "allowed"
        except OSError as error:
            seen[attempt.__name__] = type(error).__name__
    return seen
`,
      `${folder}:${record.process?.pid}`,
    )) as Record<string, string>;
    expect(new Set(Object.values(attempts))).toEqual(new Set(['PermissionError']));
  });
});

describe('a machine that cannot run workers', () => {
  it('says so when sockets would have paths that are too long', async () => {
    await expect(ping({ runtimeDir: join(runtimeDir, 'x'.repeat(80)) })).rejects.toThrow(/too long for sockets/);
  });

  it('says so when Python is missing or lacks what the worker needs', async () => {
    await expect(ping({ python: '/nowhere/python' })).rejects.toThrow(/missing/);
    await expect(ping({ workerDir: runtimeDir })).rejects.toThrow(/missing/);
    // What the environment of the worker was made from has none of its packages.
    const python = await realpath(config.python);
    await expect(ping({ python })).rejects.toThrow(/can't load the worker: ModuleNotFoundError: No module named/);
  });
});
