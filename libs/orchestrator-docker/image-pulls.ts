import type { Logger } from 'pino';
import type { RegistryLogin } from '#libs/config/config.js';
import { within } from '#libs/deadlines/within.js';
import type { FunctionId, WorkloadFault } from '#libs/orchestrator/workload.js';
import type { DockerEngine } from './docker-engine.js';
import { jsonLines } from './json-lines.js';

const PROGRESS_EVERY_MS = 2_000;
/** A failure is answered to everyone who asks this soon after it, so that they don't all try again. */
const FAILURE_LASTS_MS = 5_000;

interface Pull {
  readonly since: Date;
  readonly waiting: Set<FunctionId>;
}

interface Progress {
  readonly id?: string;
  readonly status?: string;
  readonly error?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}

/** Pulls absent images in the background: one pull of an image at a time, however many functions wait for it. */
export class ImagePulls {
  private readonly pulls = new Map<string, Pull>();
  private readonly failures = new Map<string, WorkloadFault>();
  private readonly closing = new AbortController();

  constructor(
    private readonly engine: DockerEngine,
    private readonly login: RegistryLogin | undefined,
    private readonly logger: Logger,
    private readonly onDone: (functionId: FunctionId) => void,
  ) {}

  /** Makes sure that an absent image is being pulled, and tells how that stands. */
  absent(image: string, functionId?: FunctionId): WorkloadFault {
    const failure = this.failures.get(image);
    if (failure !== undefined && Date.now() - failure.at.getTime() < FAILURE_LASTS_MS) return failure;
    const pull = this.pulls.get(image) ?? this.begin(image);
    if (functionId !== undefined) pull.waiting.add(functionId);
    return { code: 'starting', message: `Pulling the worker's image ${image}.`, terminal: false, at: pull.since };
  }

  /** Pulls an image and waits for it. Throws why it can't be had. */
  async pulled(image: string, signal: AbortSignal): Promise<void> {
    try {
      await within(`pulling ${image}`, { signal }, () => this.pull(image));
    } catch (error) {
      throw new Error(this.withoutSecrets(error instanceof Error ? error.message : String(error)), { cause: error });
    }
  }

  close(): void {
    this.closing.abort();
  }

  private begin(image: string): Pull {
    const pull: Pull = { since: new Date(), waiting: new Set() };
    this.pulls.set(image, pull);
    this.failures.delete(image);
    void this.finish(image, pull);
    return pull;
  }

  private async finish(image: string, pull: Pull): Promise<void> {
    try {
      await this.pull(image);
      this.logger.info({ image, tookMs: Date.now() - pull.since.getTime() }, 'image pulled');
    } catch (error) {
      if (this.closing.signal.aborted) return;
      const reason = this.withoutSecrets(error instanceof Error ? error.message : String(error));
      this.logger.warn({ image, reason }, 'image not pulled');
      const message = `The worker's image ${image} is not on the engine and can't be pulled: ${reason}`;
      this.failures.set(image, { code: 'image_unavailable', message, terminal: false, at: new Date() });
    } finally {
      this.pulls.delete(image);
    }
    for (const functionId of pull.waiting) this.onDone(functionId);
  }

  private async pull(image: string): Promise<void> {
    this.logger.info({ image }, 'pulling image');
    const stream = await this.engine.pull(image, authFor(image, this.login), this.closing.signal);
    const layers = new Map<string, { current: number; total: number }>();
    let loggedAt = Date.now();
    for await (const event of jsonLines(stream)) {
      const { error, id, status, progressDetail } = event as Progress;
      if (error !== undefined) throw new Error(error);
      if (id !== undefined && progressDetail?.total) {
        layers.set(id, { current: progressDetail.current ?? 0, total: progressDetail.total });
      }
      if (Date.now() - loggedAt < PROGRESS_EVERY_MS) continue;
      loggedAt = Date.now();
      const bytes = [...layers.values()].reduce((sum, layer) => sum + layer.current, 0);
      this.logger.info({ image, status, layers: layers.size, bytes }, 'pulling image');
    }
  }

  private withoutSecrets(message: string): string {
    const password = this.login?.password;
    return password ? message.replaceAll(password, '***') : message;
  }
}

export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  readonly serveraddress: string;
}

/** The registry's host in an image reference, by the engine's own rule; undefined for the engine's default registry. */
export function registryHost(image: string): string | undefined {
  const [first, ...rest] = image.split('/');
  if (first === undefined || rest.length === 0) return undefined;
  return /[.:]/.test(first) || first === 'localhost' ? first : undefined;
}

/** The login, only for the registry it belongs to: a password is never shown to another one. */
export function authFor(image: string, login: RegistryLogin | undefined): RegistryAuth | undefined {
  if (login === undefined) return undefined;
  const host = login.url.replace(/^[a-z]+:\/\//i, '').replace(/\/.*$/, '');
  if (registryHost(image) !== host) return undefined;
  return { username: login.username, password: login.password, serveraddress: host };
}
