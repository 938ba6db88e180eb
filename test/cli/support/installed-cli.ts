import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, vi } from 'vitest';

const PYTHON = resolve('.cache/worker-venv/bin/python');
const ENDS_WITHIN_MS = 60_000;
/** Hands stdin to the program's terminal and what it shows to stdout, and ends as the program does. */
const TERMINAL = `
import os, pty, sys
ended = pty.spawn(["sh", "-c", 'stty rows 40 cols 120; exec "$0" "$@"', *sys.argv[1:]])
sys.exit(os.waitstatus_to_exitcode(ended))
`;

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The package as `npm i -g` installs it, with a home and a working folder of its own. */
export class InstalledCli {
  private constructor(
    readonly folder: string,
    readonly env: NodeJS.ProcessEnv,
  ) {}

  static async install(env: NodeJS.ProcessEnv): Promise<InstalledCli> {
    const folder = await mkdtemp(join(tmpdir(), 'faas-cli-'));
    const run = promisify(execFile);
    const { stdout } = await run(process.execPath, ['scripts/cli-package.mjs', join(folder, 'package')]);
    const install = ['install', '--global', '--offline', '--prefix', join(folder, 'prefix'), stdout.trim()];
    await run('npm', install, { env: { ...process.env, npm_config_cache: join(folder, 'npm') } });
    const { NO_COLOR: _, FAAS_URL: _url, FAAS_API_KEY: _key, ...rest } = process.env;
    const PATH = [join(folder, 'prefix', 'bin'), process.env['PATH']].join(delimiter);
    return new InstalledCli(folder, {
      ...rest,
      PATH,
      HOME: folder,
      XDG_CONFIG_HOME: join(folder, 'config'),
      TERM: 'xterm',
      ...env,
    });
  }

  remove(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true });
  }

  /** Piped: no terminal anywhere. */
  async run(
    args: readonly string[],
    { input = '', env = {} }: { input?: string; env?: NodeJS.ProcessEnv } = {},
  ): Promise<Ran> {
    const child = this.start('faas', args, env);
    child.stdin?.on('error', () => undefined).end(input);
    return ended(child);
  }

  /** One JSON document, and nothing else, on stdout. */
  async json(...args: string[]): Promise<unknown> {
    const ran = await this.run([...args, '--json']);
    expect(ran.code, ran.err).toBe(0);
    return JSON.parse(ran.out);
  }

  inTerminal(...args: string[]): Terminal {
    return new Terminal(this.start(PYTHON, ['-c', TERMINAL, 'faas', ...args], {}));
  }

  private start(program: string, args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
    return spawn(program, args, { cwd: this.folder, env: { ...this.env, ...env }, timeout: ENDS_WITHIN_MS });
  }
}

/** What a user sees of a program, and types into it. */
export class Terminal {
  shown = '';
  readonly ended: Promise<Ran>;

  constructor(private readonly child: ChildProcess) {
    child.stdout?.on('data', (chunk: Buffer) => (this.shown += chunk.toString('utf8')));
    this.ended = ended(child);
  }

  /** With `^[` for each escape character. */
  get marked(): string {
    return this.shown.replaceAll('\u001b', '^[');
  }

  async shows(text: string | RegExp): Promise<void> {
    await vi.waitFor(() => expect(this.shown).toMatch(text), { timeout: 30_000, interval: 20 });
  }

  type(keys: string): void {
    this.child.stdin?.write(keys);
  }

  async code(): Promise<number> {
    return (await this.ended).code;
  }
}

async function ended(child: ChildProcess): Promise<Ran> {
  let out = '';
  let err = '';
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString('utf8')));
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString('utf8')));
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? (signal === null ? -1 : -2)));
  });
  return { code, out, err };
}
