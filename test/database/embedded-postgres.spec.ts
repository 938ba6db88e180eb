import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { DataSource } from 'typeorm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedPostgresError } from '#libs/database/embedded/embedded-postgres-error.js';
import { EmbeddedPostgres } from '#libs/database/embedded/embedded-postgres.js';

const signal = () => AbortSignal.timeout(30_000);

describe('EmbeddedPostgres', () => {
  let folder: string;
  let written: string[];
  const servers: EmbeddedPostgres[] = [];

  const server = (dataDir = folder) => {
    const logger = pino({ level: 'debug' }, { write: (line: string) => void written.push(line) });
    const created = new EmbeddedPostgres({ dataDir, logger, settings: { fsync: 'off' } });
    servers.push(created);
    return created;
  };

  beforeEach(async () => {
    written = [];
    const parent = await mkdtemp(join(tmpdir(), 'embedded-postgres-'));
    await chmod(parent, 0o755);
    folder = join(parent, 'postgres');
  });

  afterEach(async () => {
    for (const created of servers.splice(0)) await created.stop();
    await rm(join(folder, '..'), { recursive: true, force: true });
  });

  it('creates the cluster, its database and a private password, and logs no secret', async () => {
    const url = await server().ensureRunning(signal());
    expect(await rows(url, 'SELECT current_database() AS name')).toEqual([{ name: 'faasdb' }]);
    const path = join(folder, 'cluster', 'password');
    const password = (await readFile(path, 'utf8')).trim();
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
    expect(password.length).toBeGreaterThan(40);
    expect(written.join('')).not.toContain(password);
    const hba = await readFile(join(folder, 'cluster', 'data', 'pg_hba.conf'), 'utf8');
    expect(hba).not.toMatch(/^[^#].*\b(trust|peer|md5|password)$/m);
    await expect(rows(url.replace(password, 'guess'), 'SELECT 1')).rejects.toThrow(/password authentication failed/);
  });

  it('answers a URL that TypeORM understands too', async () => {
    const source = new DataSource({ type: 'postgres', url: await server().ensureRunning(signal()) });
    await source.initialize();
    expect(await source.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await source.destroy();
  });

  it('keeps what was written and its URL over a restart', async () => {
    const first = server();
    const url = await first.ensureRunning(signal());
    await rows(url, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();
    await expect(rows(url, 'SELECT 1')).rejects.toThrow();
    expect(await server().ensureRunning(signal())).toBe(url);
    expect(await rows(url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
  });

  it('adopts a server that runs, and leaves stopping it to the others as long as one uses it', async () => {
    const [starter, other] = [server(), server()];
    const url = await starter.ensureRunning(signal());
    const pid = await starter.pid();
    expect(await other.ensureRunning(signal())).toBe(url);
    expect(await other.pid()).toBe(pid);
    const user = new pg.Client({ connectionString: url });
    await user.connect();
    await other.stop();
    expect(await rows(url, 'SELECT 1 AS one')).toHaveLength(1);
    await user.end();
    await starter.stop();
    await expect(rows(url, 'SELECT 1')).rejects.toThrow();
  });

  it('stops a server that it adopted and nobody else uses: its starter may have been killed', async () => {
    const [killed, successor] = [server(), server()];
    const url = await killed.ensureRunning(signal());
    expect(await successor.ensureRunning(signal())).toBe(url);
    await successor.stop();
    await expect(rows(url, 'SELECT 1')).rejects.toThrow();
    expect(await successor.pid()).toBeUndefined();
  });

  it('starts a killed server again, with all that was committed', async () => {
    const embedded = server();
    const url = await embedded.ensureRunning(signal());
    await rows(url, 'CREATE TABLE kept AS SELECT 1 AS answer');
    for (let round = 0; round < 3; round += 1) {
      const pid = (await embedded.pid())!;
      process.kill(pid, 'SIGKILL');
      // Dying takes the kernel a moment, during which the server still counts as there.
      while ((await embedded.pid()) === pid) await delay(5, undefined, { signal: signal() });
      expect(await embedded.ensureRunning(signal())).toBe(url);
      expect(await embedded.pid()).not.toBe(pid);
      expect(await rows(url, 'SELECT answer FROM kept')).toEqual([{ answer: 1 }]);
    }
  });

  it('starts although the lock file names a living process that is no server', async () => {
    const first = server();
    const url = await first.ensureRunning(signal());
    await first.stop();
    const { uid, gid } = await stat(join(folder, 'cluster', 'data'));
    const owner = process.getuid?.() === 0 ? { uid, gid } : {};
    const impostor: ChildProcess = spawn('sleep', ['60'], { ...owner, cwd: '/', stdio: 'ignore' });
    try {
      const lock = `${impostor.pid}\n${join(folder, 'cluster', 'data')}\n1\n5432\n${folder}\n\n  1 1\nready\n`;
      await writeFile(join(folder, 'cluster', 'data', 'postmaster.pid'), lock);
      await writeFile(join(folder, '.s.PGSQL.5432.lock'), lock);
      expect(await server().ensureRunning(signal())).toBe(url);
    } finally {
      impostor.kill();
    }
  });

  it('lets several start at once on an empty folder, with one server at the end', async () => {
    const all = [server(), server(), server()];
    const urls = await Promise.all(all.map((one) => one.ensureRunning(signal())));
    expect(new Set(urls).size).toBe(1);
    expect(new Set(await Promise.all(all.map((one) => one.pid()))).size).toBe(1);
    expect(await rows(urls[0]!, 'SELECT 1 AS one')).toHaveLength(1);
  });

  it('survives the kill of the process that started it', async () => {
    const url = await server().ensureRunning(signal());
    await servers[0]!.stop();
    const manager = await startElsewhere(folder);
    manager.kill('SIGKILL');
    const next = server();
    expect(await next.ensureRunning(signal())).toBe(url);
    expect(written.join('')).toContain('database server adopted');
    process.kill((await next.pid())!, 'SIGINT');
    while ((await next.pid()) !== undefined) await delay(50, undefined, { signal: signal() });
  });

  it('says so when the data was made by another version', async () => {
    const first = server();
    await first.ensureRunning(signal());
    await first.stop();
    await writeFile(join(folder, 'cluster', 'data', 'PG_VERSION'), '14\n');
    await expect(server().ensureRunning(signal())).rejects.toMatchObject({
      fault: 'other_version',
      message: expect.stringContaining('made by PostgreSQL 14, installed is 18') as string,
    });
  });

  it('shows the end of the log when the server refuses to start', async () => {
    const first = server();
    await first.ensureRunning(signal());
    await first.stop();
    await writeFile(join(folder, 'cluster', 'data', 'postgresql.auto.conf'), 'no_such_setting = 1\n');
    await expect(server().ensureRunning(signal())).rejects.toThrow(/Last lines of its log:[^]*no_such_setting/);
  });

  it('uses a socket elsewhere when the folder has too long a path', async () => {
    const long = join(folder, '..', 'x'.repeat(60), 'y'.repeat(60));
    const url = await server(long).ensureRunning(signal());
    expect(url).not.toContain('xxx');
    expect(await rows(url, 'SELECT 1 AS one')).toHaveLength(1);
    await servers[0]!.stop();
    await rm(decodeURIComponent(new URL(url).hostname), { recursive: true });
  });

  it.each([
    ['in a file system that takes no folders', '/proc/nowhere/postgres'],
    ['in one that takes none even below', '/proc/self/nowhere/deeper/postgres'],
    ['in place of a file', '/etc/hostname'],
    ['below a file', '/etc/hostname/postgres'],
    ['in place of a device', '/dev/null'],
    ['under a name that is too long', join(tmpdir(), 'x'.repeat(300))],
  ])('says at once that its folder can not be %s', async (_, dataDir) => {
    if (process.platform !== 'linux') return;
    const refusal = await server(dataDir)
      .ensureRunning(signal())
      .catch((error: Error) => error);
    expect(refusal).toBeInstanceOf(EmbeddedPostgresError);
    expect((refusal as Error).message).toContain('choose another FUNCTION_STORAGE_DIR');
    expect((refusal as Error).message).toContain(dataDir);
  });

  it('gives up at once when told to', async () => {
    await expect(server().ensureRunning(AbortSignal.abort(new Error('leaving')))).rejects.toThrow('leaving');
  });
});

async function rows(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return ((await client.query(sql)) as { rows: unknown[] }).rows;
  } finally {
    await client.end();
  }
}

/** Starts the server from a process of its own, as a manager would. */
async function startElsewhere(dataDir: string): Promise<ChildProcess> {
  const script = `
    import { EmbeddedPostgres } from './libs/database/embedded/embedded-postgres.ts';
    const logger = new Proxy({}, { get: () => () => undefined });
    await new EmbeddedPostgres({ dataDir: process.argv[1], logger }).ensureRunning(AbortSignal.timeout(30_000));
    console.log('ready');
    setInterval(() => undefined, 1_000);`;
  const loader = `data:text/javascript,${encodeURIComponent(`
    import { registerHooks } from 'node:module';
    registerHooks({ resolve: (name, context, next) =>
      next(context.parentURL?.includes('/embedded/') && name.startsWith('./') ? name.replace(/\\.js$/, '.ts') : name, context) });`)}`;
  const flags = ['--experimental-transform-types', '--import', loader, '--input-type=module', '-e', script, dataDir];
  const child = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors += String(chunk)));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', () => reject(new Error(`the other process ended: ${errors}`)));
  });
  return child;
}
