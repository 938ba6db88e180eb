import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type Docker from 'dockerode';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { ended, killProcess, processes, type ProcessView } from './processes.js';

const BOOT_DEADLINE_MS = 60_000;
const LINKS = '/sys/class/net';
/** Far longer than an engine takes to move a new link into its container. */
const LINK_MAKING_MS = 3_000;
/** A default bridge of its own: with none, or with an address pool of its own, dockerd deletes the machine's docker0. */
const BRIDGE = 'faascrash0';
/** This machine's own address on it. */
export const BRIDGE_HOST = '10.214.0.1';
const BRIDGE_ADDRESS = `${BRIDGE_HOST}/24`;

export interface Shim {
  readonly pid: number;
  readonly container: string;
  /** Its container's first process, while that lives. */
  readonly inside: readonly number[];
}

/** Why an engine of our own can't run here; undefined when it can. */
export function whyNoDaemon(): string | undefined {
  if (process.platform !== 'linux' || process.geteuid?.() !== 0) return 'only root on Linux can run an engine to kill';
  const path = process.env['PATH'] ?? '';
  const found = path.split(delimiter).some((folder) => existsSync(join(folder, 'dockerd')));
  return found ? undefined : 'dockerd is not on PATH, and the engine of the machine is not ours to kill';
}

/**
 * A Docker engine of the suite's own, to be killed and started again: kill -9 of the machine's own would hit others. It
 * leaves the machine's firewall alone (workers are reached by address from their bridge) and keeps all in one folder.
 */
export class DockerDaemon {
  readonly host: string;
  readonly docker: Docker;
  private child: ChildProcess | undefined;
  private survivors: Shim[] = [];
  private readonly linksBefore = new Set(halfMadeLinks());
  /** Containers that it forgot when it was killed while it started them. */
  forgotten = 0;

  constructor(private readonly folder: string) {
    const socket = join(folder, 'docker.sock');
    this.host = `unix://${socket}`;
    this.docker = connectDocker({ socketPath: socket });
  }

  async start(liveRestore: boolean): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    // A dead containerd counts as running for as long as nobody has collected it, and would be waited for.
    await rm(join(this.folder, 'exec', 'containerd', 'containerd.pid'), { force: true });
    await rm(join(this.folder, 'pid'), { force: true });
    // Failing where it exists already is what is wanted.
    await run('ip', ['link', 'add', BRIDGE, 'type', 'bridge']);
    await run('ip', ['address', 'add', BRIDGE_ADDRESS, 'dev', BRIDGE]);
    await run('ip', ['link', 'set', BRIDGE, 'up']);
    const log = openSync(join(this.folder, 'log'), 'a');
    const child = spawn('dockerd', this.flags(liveRestore), { stdio: ['ignore', log, log] });
    closeSync(log);
    this.child = child;
    const deadline = Date.now() + BOOT_DEADLINE_MS;
    while (!(await this.answers())) {
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`dockerd does not start:\n${await this.tail()}`);
      }
      await delay(20);
    }
    await this.endForgotten();
  }

  /** It takes its containerd along; the containers' shims live on. */
  async kill(): Promise<void> {
    const { child } = this;
    if (child?.pid === undefined || !this.isRunning()) return;
    const children = processes().filter(({ parent }) => parent === child.pid);
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await exited;
    this.survivors = this.shims();
    for (const { pid, command } of children) if (command[0]?.includes('containerd') === true) await ended(pid);
  }

  async loadImage(image: string, from: Docker): Promise<void> {
    const archive = await from.getImage(image).get();
    const progress = await this.docker.loadImage(archive);
    for await (const _ of progress as AsyncIterable<Buffer>);
    await this.docker.getImage(image).inspect();
  }

  /** Stops it with everything it runs, also when it is broken, and removes its folder. */
  async close(): Promise<void> {
    // What it keeps in the kernel only it can name: killed by the last round, it is needed once more.
    if (!this.isRunning()) await this.start(false).catch(() => undefined);
    const bridges = await this.empty().catch(() => []);
    const { child } = this;
    if (child?.pid !== undefined && this.isRunning()) {
      child.kill('SIGTERM');
      await Promise.race([ended(child.pid), delay(10_000)]);
    }
    for (const { pid, inside } of this.shims()) [pid, ...inside].forEach((one) => killProcess(one));
    for (const { pid } of this.ours()) killProcess(pid);
    while (this.ours().length > 0) await delay(20);
    await this.unmount();
    const halfMade = await this.linksLeftHalfMade();
    for (const link of [...bridges, BRIDGE, ...halfMade]) await run('ip', ['link', 'delete', link]);
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Engines of others make links too: theirs are half made for a moment only. */
  private async linksLeftHalfMade(): Promise<string[]> {
    const suspects = halfMadeLinks().filter((name) => !this.linksBefore.has(name));
    if (suspects.length > 0) await delay(LINK_MAKING_MS);
    const still = new Set(halfMadeLinks());
    return suspects.filter((name) => still.has(name));
  }

  async tail(): Promise<string> {
    const log = await readFile(join(this.folder, 'log'), 'utf8').catch(() => '');
    return log.trimEnd().split('\n').slice(-40).join('\n');
  }

  /** What holds a container each, and outlives the engine. */
  shims(): Shim[] {
    const table = processes();
    return this.ours()
      .filter(({ command }) => command[0]?.includes('containerd-shim') === true)
      .map(({ pid, command }) => ({
        pid,
        container: command[command.indexOf('-id') + 1] ?? '',
        inside: table.filter(({ parent }) => parent === pid).map((one) => one.pid),
      }));
  }

  /**
   * Killed while it starts or removes a container, the engine takes it for one that never ran, gives its address away
   * and forgets it at the next removal, though it runs. No client can know of it, so it is ended here.
   */
  private async endForgotten(): Promise<void> {
    const known = await this.docker.listContainers();
    const running = new Set(known.map(({ Id }) => Id));
    for (const { pid, container, inside } of this.survivors) {
      if (running.has(container)) continue;
      if (inside.some((one) => killProcess(one))) this.forgotten += 1;
      killProcess(pid);
    }
    this.survivors = [];
  }

  /** Processes that name the folder: the engine, its containerd and the shims. */
  private ours(): ProcessView[] {
    return processes().filter(({ command }) => command.some((word) => word.includes(`${this.folder}/`)));
  }

  /** Answers the bridges of its networks, which stay behind when a network can't be removed. */
  private async empty(): Promise<string[]> {
    const networks = (await this.docker.listNetworks()).filter(
      ({ Driver, Name }) => Driver === 'bridge' && Name !== 'bridge',
    );
    for (const { Id } of await this.docker.listContainers({ all: true })) {
      await this.docker
        .getContainer(Id)
        .remove({ force: true, v: true })
        .catch(() => undefined);
    }
    for (const { Id } of networks) {
      await this.docker
        .getNetwork(Id)
        .remove()
        .catch(() => undefined);
    }
    return networks.map(({ Id }) => `br-${Id.slice(0, 12)}`);
  }

  private isRunning(): boolean {
    const { child } = this;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  private async unmount(): Promise<void> {
    const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
    for (const mount of mounts.filter((path) => path.startsWith(`${this.folder}/`)).toReversed()) {
      await run('umount', ['-l', mount]);
    }
  }

  private flags(liveRestore: boolean): string[] {
    const under = (name: string) => join(this.folder, name);
    return [
      ...['--data-root', under('data'), '--exec-root', under('exec'), '--pidfile', under('pid')],
      ...['--host', this.host, `--bridge=${BRIDGE}`, '--shutdown-timeout=5'],
      ...['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'],
      ...(liveRestore ? ['--live-restore'] : []),
    ];
  }

  private answers(): Promise<boolean> {
    return this.docker.ping().then(
      () => true,
      () => false,
    );
  }
}

/** Only for clearing up: what has gone already is no fault. */
function run(program: string, args: string[]): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: 'ignore' });
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
}

/** A container's pair of links before one is moved into the container: killed right then, the engine leaves both. */
function halfMadeLinks(): string[] {
  const names = readdirSync(LINKS).filter((name) => name.startsWith('veth'));
  const numberOf = (name: string, file: string) => {
    try {
      return readFileSync(join(LINKS, name, file), 'utf8').trim();
    } catch {
      return undefined;
    }
  };
  const here = new Set(names.map((name) => numberOf(name, 'ifindex')));
  return names.filter((name) => {
    const peer = numberOf(name, 'iflink');
    return peer !== undefined && here.has(peer);
  });
}
