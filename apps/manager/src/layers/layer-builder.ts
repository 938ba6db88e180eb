import type { LayersConfig } from '#libs/config/config.js';
import { LAYERS_CONFIG } from '#libs/config/config.module.js';
import { AppError } from '#libs/errors/app-error.js';
import { BuildFailed, type BuildRequest, type Built, type LayerEngine } from '#libs/orchestrator/layers.js';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { createHash, randomUUID } from 'node:crypto';
import { BuildUnavailable, RequirementsNotInstallable } from './errors.js';
import { packed } from './layer-pieces.js';
import { type BuildError, LayerRepository } from './layer.repository.js';

const LEASE_MS = 10_000;
const RENEW_MS = 1_000;
const LINES_SHOWN = 10;
const LONGEST_LINE = 300;
/** Of the layers' own form: a change of how they are made gives all of them another digest, and has them built again. */
export const LAYER_FORMAT = 1;

/** A build that this manager may make; disposed of, its place here is free. */
export interface Begun extends Disposable {
  readonly key: string;
  readonly token: string;
  /** False: somebody else builds it. */
  readonly isOurs: boolean;
}

/** Builds layers under a lease, a few at a time in each manager. */
@Injectable()
export class LayerBuilder implements OnApplicationShutdown {
  private readonly stopping = new AbortController();
  private readonly building = new Set<Promise<unknown>>();
  private taken = 0;

  constructor(
    private readonly layers: LayerRepository,
    @Inject(LAYERS_CONFIG) private readonly config: LayersConfig,
    @InjectPinoLogger(LayerBuilder.name) private readonly logger: PinoLogger,
  ) {}

  /**
   * Undefined: there is no place for it now.
   *
   * @param withinMs what was built not longer ago isn't built again; null: ever
   */
  async begin(key: string, withinMs: number | null): Promise<Begun | undefined> {
    this.stopping.signal.throwIfAborted();
    if (this.taken >= this.config.concurrency) return undefined;
    this.taken += 1;
    const free = () => void (this.taken -= 1);
    const token = randomUUID();
    try {
      return { key, token, isOurs: await this.layers.begin(key, token, LEASE_MS, withinMs), [Symbol.dispose]: free };
    } catch (error) {
      free();
      throw error;
    }
  }

  /** The digest of what was built. Throws {@link RequirementsNotInstallable} or {@link BuildUnavailable}. */
  async build(begun: Begun, request: BuildRequest, engine: LayerEngine, deadline: number): Promise<string> {
    const work = this.attempt(begun, request, engine, deadline);
    this.building.add(work);
    try {
      return await work;
    } finally {
      this.building.delete(work);
    }
  }

  /** What is under way is left to other managers. */
  async onApplicationShutdown(): Promise<void> {
    this.stopping.abort(new BuildUnavailable('The manager is shutting down.'));
    await Promise.allSettled(this.building);
  }

  private async attempt(begun: Begun, request: BuildRequest, engine: LayerEngine, deadline: number): Promise<string> {
    const { key, token } = begun;
    const lost = new AbortController();
    const signal = AbortSignal.any([
      this.stopping.signal,
      lost.signal,
      AbortSignal.timeout(Math.max(1, deadline - Date.now())),
    ]);
    const lines: string[] = [];
    const renewing = this.renewal(begun, lines, lost);
    const beganAt = Date.now();
    try {
      const note = (line: string) => {
        lines.push(line.slice(0, LONGEST_LINE));
        if (lines.length > LINES_SHOWN) lines.shift();
      };
      const digest = await engine.build(request, note, (built) => this.keep(built, begun, lines), signal);
      this.logger.info({ layer: digest, tookMs: Date.now() - beganAt }, 'layer built');
      return digest;
    } catch (error) {
      const failure = this.failureOf(error);
      this.logger.info({ code: failure.code, reason: failure.message, err: failure.cause }, 'layer not built');
      const noted: BuildError = { code: failure.code, message: failure.message };
      // Another manager notices the end of the lease otherwise.
      await this.layers.fail(key, token, noted, lines).catch(() => undefined);
      throw failure;
    } finally {
      clearInterval(renewing);
    }
  }

  private async keep(built: Built, { key, token }: Begun, lines: readonly string[]): Promise<string> {
    const { lock, python, machine, bytes, files } = built;
    const digest = createHash('sha256')
      // Code of a source distribution could write any lock: what it made counts for its own requirements alone.
      .update(JSON.stringify([LAYER_FORMAT, python, machine, lock, ...(this.config.allowSdists ? [key] : [])]))
      .digest('hex');
    await this.layers.keep({ digest, lock, python, machine, bytes, files }, packed(built.archive), {
      key,
      token,
      lines,
    });
    return digest;
  }

  /** Ends the build when somebody else has taken it over. */
  private renewal({ key, token }: Begun, lines: readonly string[], lost: AbortController): NodeJS.Timeout {
    let isAsking = false;
    return setInterval(() => {
      if (isAsking) return;
      isAsking = true;
      this.layers
        .renew(key, token, LEASE_MS, lines)
        .then((isOurs) => {
          if (!isOurs) lost.abort(new BuildUnavailable('Another manager has taken the build over.'));
        })
        // While the database is away the lease runs out by itself, and what is built is not kept.
        .catch(() => undefined)
        .finally(() => (isAsking = false));
    }, RENEW_MS);
  }

  private failureOf(error: unknown): RequirementsNotInstallable | BuildUnavailable {
    if (error instanceof BuildUnavailable) return error;
    if (error instanceof BuildFailed) {
      switch (error.fault) {
        case 'refused':
        case 'too_large':
          return new RequirementsNotInstallable(error.message);
        case 'index':
          return new BuildUnavailable(`The package index can't be used: ${error.message}`);
        case 'timed_out':
        case 'unavailable':
          return new BuildUnavailable(error.message);
      }
    }
    if (error instanceof AppError) return new BuildUnavailable(error.message, error);
    return new BuildUnavailable("The packages can't be built now; the manager's log has the details.", error);
  }
}
