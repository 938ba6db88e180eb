import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The control plane's parts, built by scripts/install-kubernetes.sh. */
const KUBERNETES = resolve('.cache/kubernetes/kubernetes');
const LAST_LINES = 15;

export type Flags = Readonly<Record<string, string | number | boolean>>;

/** A server of the control plane, which ends with this process. */
export class Program {
  readonly ended: Promise<unknown>;
  private readonly child: ChildProcess;
  private readonly log: string;

  /** @param folder where its output goes, as `name.log` */
  constructor(
    private readonly name: 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler',
    flags: Flags,
    folder: string,
  ) {
    this.log = join(folder, `${name}.log`);
    const given = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    const program = name === 'etcd' ? [name] : [KUBERNETES, name];
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', ...program, ...given], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: folder,
    });
    const output = createWriteStream(this.log);
    this.child.stdout?.pipe(output, { end: false });
    this.child.stderr?.pipe(output, { end: false });
    this.ended = once(this.child, 'close').then(
      () => output.end(),
      (error: Error) => output.end(error.message),
    );
  }

  /** Throws where it has ended by itself, with its last lines. */
  check(): void {
    const { exitCode, signalCode } = this.child;
    if (exitCode === null && signalCode === null) return;
    const lines = readFileSync(this.log, 'utf8').trimEnd().split('\n');
    throw new Error(`${this.name} ended (${exitCode ?? signalCode}):\n${lines.slice(-LAST_LINES).join('\n')}`);
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** Which program is missing to start a control plane; undefined when all are there. */
export function missingProgram(): string | undefined {
  if (process.platform !== 'linux') return 'Linux';
  if (!existsSync(KUBERNETES)) return '.cache/kubernetes, which scripts/install-kubernetes.sh makes,';
  const folders = (process.env['PATH'] ?? '').split(':');
  return ['etcd', 'setpriv', 'ip'].find((name) => !folders.some((folder) => existsSync(join(folder, name))));
}
