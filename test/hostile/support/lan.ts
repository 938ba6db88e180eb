import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { promisify } from 'node:util';

const run = promisify(execFile);
const METADATA = '169.254.169.254';

/** Accepts on each port, holds what it accepted, and says once that it listens. */
const LISTENER = `
import socket, sys, threading
held = []
def accept(listener):
    while True:
        held.append(listener.accept()[0])
for port in sys.argv[1:]:
    listener = socket.create_server(("0.0.0.0", int(port)), backlog=1024)
    threading.Thread(target=accept, args=(listener,)).start()
print("listening", flush=True)
`;

const CONNECT = `
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
`;

/**
 * A machine beside this one, in a network namespace: it has a private address, one that stands in for the internet's
 * and one for a cloud's metadata, and routes everything else through this machine.
 */
export class Lan {
  private listener: ChildProcess | undefined;

  private constructor(
    private readonly name: string,
    /** This machine's address on it. */
    readonly own: string,
    readonly privateAddress: string,
    readonly publicAddress: string,
  ) {}

  static readonly metadata = METADATA;

  /** Why it can't be had here; undefined when it can. */
  static whyNot(): string | undefined {
    if (process.getuid?.() !== 0) return 'only root may set packet filter rules';
    try {
      execFileSync('iptables', ['-w', '5', '-n', '-L', 'INPUT'], { stdio: 'ignore' });
      execFileSync('ip', ['netns', 'list'], { stdio: 'ignore' });
      return undefined;
    } catch {
      return 'iptables and ip can’t be used here';
    }
  }

  static async open(...ports: number[]): Promise<Lan> {
    const [a, b] = [randomInt(200, 250), randomInt(1, 250)];
    const lan = new Lan(`faas${a}-${b}`, `10.${a}.${b}.1`, `10.${a}.${b}.2`, `44.128.${a}.${b}`);
    try {
      await lan.build();
      await lan.listen(ports);
    } catch (error) {
      await lan.close();
      throw error;
    }
    return lan;
  }

  /** What a neighbour gets who connects: `open`, or the name of Python's exception. */
  async connect(host: string, port: number): Promise<string> {
    const { stdout } = await run('ip', ['netns', 'exec', this.name, 'python3', '-c', CONNECT, host, String(port)], {
      timeout: 10_000,
    });
    return stdout.trim();
  }

  async close(): Promise<void> {
    this.listener?.kill('SIGKILL');
    // The interfaces and routes go with it.
    await run('ip', ['netns', 'del', this.name]).catch(() => undefined);
    await run('ip', ['link', 'del', this.veth]).catch(() => undefined);
  }

  private get veth(): string {
    return `v${this.name}`;
  }

  private async build(): Promise<void> {
    const { name, veth } = this;
    const inside = (...args: string[]) => ['-n', name, ...args];
    const peer = `${veth}p`;
    for (const args of [
      ['netns', 'add', name],
      ['link', 'add', veth, 'type', 'veth', 'peer', 'name', peer, 'netns', name],
      ['addr', 'add', `${this.own}/30`, 'dev', veth],
      ['link', 'set', veth, 'up'],
      inside('addr', 'add', `${this.privateAddress}/30`, 'dev', peer),
      inside('addr', 'add', `${this.publicAddress}/32`, 'dev', peer),
      inside('addr', 'add', `${METADATA}/32`, 'dev', peer),
      inside('link', 'set', 'lo', 'up'),
      inside('link', 'set', peer, 'up'),
      inside('route', 'add', 'default', 'via', this.own),
      ['route', 'add', `${this.publicAddress}/32`, 'via', this.privateAddress, 'dev', veth],
      ['route', 'replace', `${METADATA}/32`, 'via', this.privateAddress, 'dev', veth],
    ])
      await run('ip', args);
  }

  private async listen(ports: readonly number[]): Promise<void> {
    const args = ['netns', 'exec', this.name, 'python3', '-c', LISTENER, ...ports.map(String)];
    this.listener = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await Promise.race([once(this.listener.stdout!, 'data'), once(this.listener, 'exit').then(fail)]);
  }
}

function fail(): never {
  throw new Error('The neighbour’s listener ended.');
}
