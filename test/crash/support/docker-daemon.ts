import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type Docker from 'dockerode';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { ended, killProcess, processes } from './processes.js';

const BOOT_DEADLINE_MS = 30_000;
/** Far from what other engines of the machine hand out. */
const ADDRESSES = 'base=10.213.0.0/16,size=24';

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
  }

  /** It takes its containerd along; the containers' shims live on. */
  async kill(): Promise<void> {
    const { child } = this;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const children = processes().filter(({ parent }) => parent === child.pid);
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await exited;
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
    await this.empty().catch(() => undefined);
    const { child } = this;
    if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await Promise.race([ended(child.pid), delay(10_000)]);
    }
    for (const { pid } of this.ours()) killProcess(pid);
    while (this.ours().length > 0) await delay(20);
    await this.unmount();
    await rm(this.folder, { recursive: true, force: true });
  }

  async tail(): Promise<string> {
    const log = await readFile(join(this.folder, 'log'), 'utf8').catch(() => '');
    return log.trimEnd().split('\n').slice(-40).join('\n');
  }

  /** Processes that name the folder: the engine, its containerd and the shims, each of which takes its container along. */
  ours() {
    return processes().filter(({ command }) => command.some((word) => word.includes(`${this.folder}/`)));
  }

  private async empty(): Promise<void> {
    for (const { Id } of await this.docker.listContainers({ all: true })) {
      await this.docker.getContainer(Id).remove({ force: true, v: true });
    }
    for (const { Id, Driver } of await this.docker.listNetworks()) {
      if (Driver === 'bridge') await this.docker.getNetwork(Id).remove();
    }
  }

  private async unmount(): Promise<void> {
    const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
    for (const mount of mounts.filter((path) => path.startsWith(`${this.folder}/`)).toReversed()) {
      await new Promise<void>((resolve) => spawn('umount', ['-l', mount]).once('close', () => resolve()));
    }
  }

  private flags(liveRestore: boolean): string[] {
    const under = (name: string) => join(this.folder, name);
    return [
      ...['--data-root', under('data'), '--exec-root', under('exec'), '--pidfile', under('pid')],
      // No --bridge=none: that would delete docker0, which belongs to the machine's own engine as well.
      ...['--host', this.host, '--default-address-pool', ADDRESSES, '--shutdown-timeout=5'],
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
