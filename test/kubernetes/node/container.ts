import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { CoreV1Api, V1Container, V1Pod, V1Probe } from '@kubernetes/client-node';
import { ContainerRun, type Exit, type WorkerImage } from './container-run.js';
import type { ContainerLog } from './log.js';
import type { MemoryLimits } from './memory-limits.js';
import { NotYet, type PodFiles } from './pod-files.js';
import type { ContainerView, Terminated } from './pod-status.js';
import { type Asking, overHttp, overTcp, Prober } from './probe.js';
import { quantity } from './quantity.js';

/** What every container on the node shares. */
export interface NodeSettings {
  readonly folder: string;
  readonly image: WorkerImage;
  /** Milliseconds before each restart in a row; the last one for all that follow. */
  readonly backOffMs: readonly number[];
  /** Milliseconds between tries for what isn't there yet: images, ConfigMaps. */
  readonly retryMs: number;
  readonly core: CoreV1Api;
  readonly memory: MemoryLimits;
}

export const PORT = 8000;
/** Its packages lie beside the worker's. */
const BUILDER_IMAGE = 'faas-builder:local';
const MODULE = ['python3', '-m'];
/** The pod shows the end before it shows what follows. */
const SHOWN_MS = 20;

/** One container of a pod: started, probed, and started again whenever it ends, until it is told to stop. */
export class Container {
  view: ContainerView;
  private run: ContainerRun | undefined;
  private former: ContainerLog | undefined;
  private probers: Prober[] = [];
  private timer: NodeJS.Timeout | undefined;
  private stopping = false;
  private starting: Promise<void> = Promise.resolve();
  private failures = 0;
  private pulls = 0;

  constructor(
    private readonly pod: V1Pod,
    private readonly spec: V1Container,
    private readonly address: string,
    private readonly files: PodFiles,
    private readonly node: NodeSettings,
    private readonly onChange: () => void,
    /** The pod's other containers wait until it has ended well. */
    private readonly isFirst = false,
  ) {
    this.view = {
      name: spec.name,
      image: spec.image ?? '',
      state: {
        kind: 'waiting',
        reason: pod.spec?.initContainers === undefined ? 'ContainerCreating' : 'PodInitializing',
      },
      last: undefined,
      containerID: undefined,
      restarts: 0,
      started: false,
      ready: false,
    };
  }

  get isRunning(): boolean {
    return this.view.state.kind === 'running';
  }

  get hasEndedWell(): boolean {
    const { state } = this.view;
    return state.kind === 'terminated' && state.exit.exitCode === 0;
  }

  log(previous: boolean): ContainerLog | undefined {
    if (previous) return this.former;
    return this.run?.log ?? this.former;
  }

  start(): Promise<void> {
    this.starting = this.tryToStart();
    return this.starting;
  }

  private async tryToStart(): Promise<void> {
    if (this.stopping) return;
    const { command, args } = this.spec;
    if (args !== undefined || (command !== undefined && !isModule(command))) {
      return this.wait('RunContainerError', 'this node runs images as they are, or one of their modules, without args');
    }
    if (!this.hasImage()) return this.failPull();
    const root = join(this.node.folder, this.pod.metadata?.uid ?? '', this.view.name);
    try {
      await mkdir(join(root, 'tmp'), { recursive: true });
      await this.files.layOut(root, this.spec);
      const env = await this.files.environment(root, this.spec);
      if (!this.stopping) this.launch(root, env);
    } catch (error) {
      // Whatever else keeps it from its files, such as an API server that is away, passes too.
      this.wait(error instanceof NotYet ? error.reason : 'ContainerCreating', (error as Error).message);
    }
  }

  /** Without warning, as whatever ends a process from outside. */
  async kill(): Promise<void> {
    await this.run?.kill();
  }

  /** Ends it for good: its preStop, SIGTERM, and at the deadline SIGKILL. */
  async stop(graceMs: number): Promise<void> {
    this.stopping = true;
    clearTimeout(this.timer);
    await this.starting;
    const { run } = this;
    if (run === undefined || !this.isRunning) return this.stopProbing();
    const deadline = delay(graceMs, undefined, { ref: false }).then(() => run.kill());
    await Promise.race([this.leave(run), deadline]);
    await run.exited;
    this.stopProbing();
  }

  private async leave(run: ContainerRun): Promise<void> {
    const seconds = this.spec.lifecycle?.preStop?.sleep?.seconds ?? 0;
    if (seconds > 0) await delay(seconds * 1000, undefined, { ref: false });
    run.terminate();
    await run.exited;
  }

  private hasImage(): boolean {
    const plain = (name: string) => name.replace(/^docker\.io\/(library\/)?/, '');
    return [this.node.image.name, BUILDER_IMAGE].some((name) => plain(this.view.image) === plain(name));
  }

  private failPull(): void {
    const { image } = this.view;
    if (this.spec.imagePullPolicy === 'Never') {
      return this.wait('ErrImageNeverPull', `Container image "${image}" is not present with pull policy of Never`);
    }
    this.pulls += 1;
    const cause = `failed to pull and unpack image "${image}": failed to resolve image: ${image}: not found`;
    if (this.pulls % 2 === 1) this.wait('ErrImagePull', cause);
    else this.wait('ImagePullBackOff', `Back-off pulling image "${image}": ErrImagePull: ${cause}`);
  }

  private wait(reason: string, message: string): void {
    this.show({ state: { kind: 'waiting', reason, message }, started: false, ready: false });
    if (this.stopping) return;
    this.timer = setTimeout(() => void this.start(), this.node.retryMs);
  }

  private launch(root: string, env: Readonly<Record<string, string>>): void {
    const { image, memory } = this.node;
    const limit = this.spec.resources?.limits?.['memory'];
    const { namespace, name } = this.pod.metadata ?? {};
    const options = {
      image,
      root,
      address: this.address,
      port: PORT,
      env,
      memoryLimit: quantity(limit),
      command: this.spec.command?.slice(MODULE.length).map((word) => this.files.pathOf(root, this.spec, word)),
      tag: `${namespace}/${name}`,
    };
    const run = new ContainerRun(options, memory);
    this.former = this.run?.log ?? this.former;
    this.run = run;
    const { startupProbe, readinessProbe } = this.spec;
    const started = startupProbe === undefined;
    this.show({
      state: { kind: 'running', startedAt: run.startedAt },
      containerID: `containerd://${run.id}`,
      started,
      ready: started && readinessProbe === undefined,
    });
    if (started) this.probeOnceStarted(run);
    else this.probe(startupProbe, (ok) => this.onStartup(run, ok));
    void run.exited.then((exit) => this.onExit(run, exit));
  }

  private onStartup(run: ContainerRun, ok: boolean): void {
    this.stopProbing();
    if (!ok) return this.restart(run);
    this.show({ started: true, ready: this.spec.readinessProbe === undefined });
    this.probeOnceStarted(run);
  }

  private probeOnceStarted(run: ContainerRun): void {
    const { readinessProbe, livenessProbe } = this.spec;
    if (readinessProbe !== undefined) this.probe(readinessProbe, (ok) => this.show({ ready: ok }));
    if (livenessProbe === undefined) return;
    this.probe(livenessProbe, (ok) => {
      // A pod that leaves is no longer asked whether it lives.
      if (!ok && !this.stopping) this.restart(run);
    });
  }

  private probe(spec: V1Probe, onResult: (ok: boolean) => void): void {
    this.probers.push(new Prober(spec, this.askingFor(spec), onResult));
  }

  private askingFor(spec: V1Probe): Asking {
    const { httpGet, tcpSocket } = spec;
    const portOf = (port: number | string) =>
      typeof port === 'number' ? port : (this.spec.ports?.find(({ name }) => name === port)?.containerPort ?? PORT);
    if (httpGet !== undefined) return overHttp(`http://${this.address}:${portOf(httpGet.port)}${httpGet.path}`);
    if (tcpSocket !== undefined) return overTcp(this.address, portOf(tcpSocket.port));
    throw new Error(`This node probes over HTTP and TCP only, not as ${JSON.stringify(spec)}.`);
  }

  private restart(run: ContainerRun): void {
    this.stopProbing();
    const graceMs = (this.pod.spec?.terminationGracePeriodSeconds ?? 30) * 1000;
    run.terminate();
    void Promise.race([run.exited, delay(graceMs, undefined, { ref: false })]).then(() => run.kill());
  }

  private onExit(run: ContainerRun, exit: Exit): void {
    this.stopProbing();
    const last: Terminated = { ...exit, containerID: `containerd://${run.id}`, ...this.lastWords(run, exit) };
    this.show({ state: { kind: 'terminated', exit: last }, started: false, ready: false });
    const restartPolicy = this.pod.spec?.restartPolicy;
    const isDone =
      restartPolicy === 'Never' || ((restartPolicy === 'OnFailure' || this.isFirst) && exit.exitCode === 0);
    if (this.stopping || isDone) return;
    const { backOffMs } = this.node;
    const pause = backOffMs[Math.min(this.failures, backOffMs.length - 1)] ?? 0;
    this.failures += 1;
    this.timer = setTimeout(() => this.startAgain(last, pause), SHOWN_MS);
  }

  private startAgain(last: Terminated, pause: number): void {
    const { namespace, name, uid } = this.pod.metadata ?? {};
    this.view = { ...this.view, last, restarts: this.view.restarts + 1 };
    if (pause === 0) return void this.start();
    const message = `back-off ${pause / 1000}s restarting failed container=${this.view.name} pod=${name}_${namespace}(${uid})`;
    this.show({ state: { kind: 'waiting', reason: 'CrashLoopBackOff', message } });
    this.timer = setTimeout(() => void this.start(), pause);
  }

  private lastWords(run: ContainerRun, { exitCode }: Exit): { message?: string } {
    const tells = this.spec.terminationMessagePolicy === 'FallbackToLogsOnError' && exitCode !== 0;
    return tells ? { message: run.log.terminationMessage() } : {};
  }

  private stopProbing(): void {
    for (const prober of this.probers.splice(0)) prober.stop();
  }

  private show(change: Partial<ContainerView>): void {
    this.view = { ...this.view, ...change };
    this.onChange();
  }
}

function isModule(command: readonly string[]): boolean {
  return command.length > MODULE.length && MODULE.every((word, at) => command[at] === word);
}
