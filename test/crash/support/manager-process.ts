import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { BuildCopy } from './build-copy.js';

const BOOT_DEADLINE_MS = 90_000;
const KEPT_LINES = 4_000;
/** Every look of the suite, and every boot, leaves such lines. */
const TELLS_NOTHING =
  /"method":"GET".*"msg":"request completed"|"context":"(InstanceLoader|Router\w+|Routes\w+|Nest\w+)"/;

/** One manager as a process of its own, so that kill -9 is what it is in real life. */
export class ManagerProcess {
  private child: ChildProcess | undefined;
  private readonly lines: string[] = [];
  private address: string | undefined;
  /** Counts its deaths: a call that saw one in between may have been cut off. */
  deaths = 0;

  constructor(
    readonly name: string,
    private readonly build: BuildCopy,
    private readonly env: Readonly<Record<string, string>>,
  ) {}

  /** Undefined while it doesn't listen. */
  get url(): string | undefined {
    return this.address;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Resolves once it listens; rejects when it ends before. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [this.build.main], {
      cwd: this.build.root,
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: process.env['HOME'] ?? '',
        NODE_COMPILE_CACHE: this.build.compiledDir,
        ...this.env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    const listening = Promise.withResolvers<string>();
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.note(line);
      const port = line.includes('"msg":"listening"') ? (JSON.parse(line) as { port: number }).port : undefined;
      if (port !== undefined) listening.resolve(`http://127.0.0.1:${port}`);
    });
    createInterface({ input: child.stderr }).on('line', (line) => this.note(line));
    child.once('exit', (code, signal) => {
      this.note(`--- manager ${this.name} (pid ${child.pid}) ended: ${signal ?? `status ${code}`}`);
      if (this.child === child) {
        this.address = undefined;
        this.deaths += 1;
      }
      listening.reject(new Error(`Manager ${this.name} ended while it booted: ${signal ?? `status ${code}`}.`));
    });
    const late = delay(BOOT_DEADLINE_MS, undefined, { ref: false }).then(() => {
      throw new Error(`Manager ${this.name} did not listen within ${BOOT_DEADLINE_MS} ms.`);
    });
    this.address = await Promise.race([listening.promise, late]);
  }

  async kill(): Promise<void> {
    // Its sockets end before its end is noticed, on a busy machine long before.
    this.address = undefined;
    this.deaths += 1;
    await this.end('SIGKILL');
  }

  /** Answers the exit status. */
  terminate(): Promise<number | null> {
    return this.end('SIGTERM');
  }

  tail(count: number): string {
    return this.lines.slice(-count).join('\n');
  }

  private note(line: string): void {
    if (TELLS_NOTHING.test(line)) return;
    this.lines.push(line);
    if (this.lines.length > 2 * KEPT_LINES) this.lines.splice(0, KEPT_LINES);
  }

  private async end(signal: NodeJS.Signals): Promise<number | null> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    await exited;
    return child.exitCode;
  }
}
