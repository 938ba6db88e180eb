import type { FunctionDefaults, LimitsConfig } from '#libs/config/config.js';
import { FUNCTION_DEFAULTS, LIMITS_CONFIG } from '#libs/config/config.module.js';
import { Repeating } from '#libs/deadlines/repeating.js';
import { AppError } from '#libs/errors/app-error.js';
import { InternalError } from '#libs/errors/errors.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { FunctionNotFound, FunctionRemoved, InvalidUpdate } from '../functions/errors.js';
import { FunctionChanges } from '../functions/function-changes.js';
import { errorOf, isDivided } from '../functions/function.entity.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { InlineReconciler } from '../functions/inline-reconciler.js';
import { FunctionsService, UPLOAD_TIMES } from '../functions/functions.service.js';
import { FORM_OVERHEAD_BYTES } from '../functions/upload-form.js';
import { readRevision } from '../functions/upload.js';
import { type LayerChoice, layerChoice } from '../layers/layer-choice.js';
import type { BuildRow } from '../layers/layer.repository.js';
import { LayersService, type Wanted } from '../layers/layers.service.js';
import { MemoryBudget } from '../memory/memory-budget.js';
import { SecretsService } from '../secrets/secrets.service.js';
import { failureOf, RevisionNotFound, RevisionSuperseded } from './errors.js';
import { TrafficService } from '../traffic/traffic.service.js';
import type { RevisionOf } from './dto.js';
import { InstallationPolicy } from './installation-policy.js';
import type { FunctionSpec, SettingName } from './function-spec.js';
import type { RevisionError } from './revision.entity.js';
import { AWAITED_MS, type RevisionLayer, RevisionRepository, type RevisionRow } from './revision.repository.js';

/** If the manager crashes, the loop gives a revision up this much later than its maker's wait would have ended. */
const ROLLOUT_MARGIN_MS = 15_000;
const NUMBER = /^[1-9]\d{0,8}$/;

/** Who asks, and for which version of the function. */
interface Asking {
  readonly versions: readonly number[] | undefined;
  readonly named: (id: FunctionId) => void;
}

/** Updates of functions: a revision is written, takes the calls over once it is ready, and stays to go back to. */
@Injectable()
export class RevisionsService {
  constructor(
    private readonly functions: FunctionsService,
    private readonly repository: FunctionRepository,
    private readonly revisions: RevisionRepository,
    private readonly changes: FunctionChanges,
    private readonly policy: InstallationPolicy,
    private readonly traffic: TrafficService,
    private readonly orchestrator: Orchestrator,
    private readonly memory: MemoryBudget,
    private readonly secrets: SecretsService,
    private readonly layers: LayersService,
    private readonly inline: InlineReconciler,
    @Inject(FUNCTION_DEFAULTS) private readonly config: FunctionDefaults,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    @InjectPinoLogger(RevisionsService.name) private readonly logger: PinoLogger,
  ) {}

  async list(reference: string): Promise<RevisionOf[]> {
    const row = await this.functions.find(reference);
    const revisions = await this.revisions.list(row.id);
    return Promise.all(revisions.map(async (revision) => ({ row, revision, build: await this.buildOf(revision) })));
  }

  async find(reference: string, number: string): Promise<RevisionOf> {
    const row = await this.functions.find(reference);
    const revision = await this.revisions.find(row.id, numberOf(row.id, number));
    if (revision === null) throw new RevisionNotFound(row.id, number);
    return { row, revision, build: await this.buildOf(revision) };
  }

  /** The lock of a revision's packages, empty where it has none. */
  async lock(reference: string, number: string): Promise<string> {
    const { revision } = await this.find(reference, number);
    return revision.layer === null ? '' : ((await this.layers.find(revision.layer))?.lock ?? '');
  }

  async remove(reference: string, number: string, named: (id: FunctionId) => void): Promise<void> {
    const { id } = await this.functions.find(reference);
    named(id);
    await this.revisions.remove(id, numberOf(id, number));
  }

  /**
   * Resolves when the revision has taken all calls over. Otherwise the former one serves on, and the reason is thrown:
   * {@link HandlerNotLoadable}, {@link FunctionNotReady}, {@link RevisionSuperseded}.
   */
  async add(
    reference: string,
    request: IncomingMessage,
    createdBy: string | null,
    { versions, named }: Asking,
  ): Promise<RevisionOf> {
    const { id, secrets } = await this.functions.find(reference);
    named(id);
    using reservation = this.memory.reserve();
    const fileBytes = Math.min(this.limits.uploadBytes, this.orchestrator.capabilities.largestCodeBytes);
    const times = this.memory.timesOf(UPLOAD_TIMES, fileBytes + FORM_OVERHEAD_BYTES);
    const counted = { add: (bytes: number) => reservation.add(Math.ceil(bytes * times)) };
    const { functionName, code, message, settings, unset } = await readRevision(request, fileBytes, counted);
    await this.secrets.require(settings.secrets ?? (unset.includes('secrets') ? {} : secrets));
    const choice = layerChoice({
      requirements: unset.includes('requirements') ? null : settings.requirements,
      code,
      allowsUrls: this.layers.allowsUrls,
    });
    const wanted = choice.kind === 'build' ? await this.layers.look(choice.requirements) : undefined;
    // What the code names takes the place of what was named before.
    const forgotten = [...unset, ...('from' in choice && choice.from === 'code' ? ['requirements' as const] : [])];
    const paces = { rolloutMs: this.rolloutMs, kept: this.config.revisionsKept };
    const made = {
      functionName,
      code: code && { bytes: code, sha256: createHash('sha256').update(code).digest('hex') },
      message,
      createdBy,
      layer: layerOf(choice, wanted),
    };
    const resolve = (former: Partial<FunctionSpec>) =>
      this.policy.resolve({ ...without(former, forgotten), ...settings });
    const { number } = await this.inline.write(id, (lease) =>
      this.revisions.add(id, made, resolve, { versions, ...paces, lease }),
    );
    this.logger.info({ functionId: id, revision: number }, 'revision added');
    if (wanted !== undefined && wanted.digest === undefined) await this.installed(id, number, wanted, paces);
    return this.takenOver(id, number, null);
  }

  /** Has a revision take over once its packages are there. */
  private async installed(
    id: FunctionId,
    number: number,
    wanted: Wanted,
    paces: { rolloutMs: number; kept: number },
  ): Promise<void> {
    const waiting = new Repeating(AWAITED_MS / 5, () => this.revisions.awaits(id, number).catch(() => undefined));
    waiting.start('later');
    try {
      const digest = await this.layers.obtain(wanted);
      await this.inline.write(id, (lease) =>
        this.revisions.take(id, number, digest, this.policy.asMade, { ...paces, lease }),
      );
    } catch (error) {
      const { code, message } = error instanceof AppError ? error : new InternalError(error);
      // Where that can't be written either, the collector does it later.
      await this.revisions.fail(id, number, { code, message }).catch(() => undefined);
      throw error instanceof FunctionNotFound ? new FunctionRemoved(id) : error;
    } finally {
      await waiting.stop();
    }
  }

  private buildOf({ state, layer, layerBuild }: RevisionRow): Promise<BuildRow | undefined> | undefined {
    return state === 'pending' && layer === null && layerBuild !== null ? this.layers.progress(layerBuild) : undefined;
  }

  /** The same of a former revision; `to` undefined: the one that had the calls before. */
  async rollBack(reference: string, to: number | undefined, { versions, named }: Asking): Promise<RevisionOf> {
    const { id, traffic, wantedTraffic } = await this.functions.find(reference);
    named(id);
    if (traffic !== null || isDivided({ traffic, wantedTraffic })) return this.giveAll(id, to, versions);
    const paces = { versions, rolloutMs: this.rolloutMs };
    const chosen = await this.inline.write(id, (lease) =>
      this.revisions.rollBack(id, to, this.policy.asMade, { ...paces, lease }),
    );
    if (chosen === undefined) return this.giveAll(id, to, versions);
    const { number, servedAt } = chosen;
    this.logger.info({ functionId: id, revision: number }, 'rolling back');
    return this.takenOver(id, number, servedAt);
  }

  /** Where users divide the calls, all of them go to the revision that they name. */
  private async giveAll(id: FunctionId, number: number | undefined, versions: Asking['versions']): Promise<RevisionOf> {
    if (number === undefined) {
      throw new InvalidUpdate('revision', 'The traffic of this function is divided: say which revision shall have it.');
    }
    const row = await this.traffic.serve(id, [{ revision: number, percent: 100 }], versions);
    const revision = await this.revisions.find(id, number);
    if (revision === null) throw new RevisionNotFound(id, number);
    return { row, revision };
  }

  private get rolloutMs(): number {
    return this.config.readyTimeoutMs + ROLLOUT_MARGIN_MS;
  }

  /** @param servedAt when it last took over before this */
  private async takenOver(id: FunctionId, number: number, servedAt: Date | null): Promise<RevisionOf> {
    const look = () => this.verdict(id, number, servedAt);
    let verdict = await this.changes.until(id, this.config.readyTimeoutMs, look);
    if (verdict === undefined) {
      const failure = await this.giveUp(id, number);
      // It may have taken over at the last moment.
      verdict = (await look()) ?? failure;
    }
    if (verdict instanceof AppError) throw verdict;
    if (verdict.row.activeRevision !== number) await this.changes.followed(id);
    return verdict;
  }

  /** Writes down that the revision was not ready in time. */
  private async giveUp(id: FunctionId, number: number): Promise<AppError> {
    const row = await this.repository.find(id);
    const late = `not within ${this.config.readyTimeoutMs} ms.`;
    if (row !== null && isDivided(row)) {
      const error = { code: 'function_not_ready', message: late };
      return failureOf(id, (await this.revisions.fail(id, number, error)) ?? error);
    }
    const { message, detail } = row?.reason ?? row?.lastFault ?? { message: '', detail: undefined };
    const error: RevisionError = {
      code: 'function_not_ready',
      message: `${late} ${message}`.trim(),
      ...(detail !== undefined && { detail }),
    };
    await this.revisions.revert(id, number, error, this.policy.asMade);
    return failureOf(id, error);
  }

  /** Whether the revision has taken over, or why not; undefined: it is on its way. */
  private async verdict(
    id: FunctionId,
    number: number,
    servedAt: Date | null,
  ): Promise<RevisionOf | AppError | undefined> {
    const row = await this.repository.find(id);
    if (row === null || row.deletedAt !== null) return new FunctionRemoved(id);
    if (row.activeRevision === number && row.servingRevision !== null) return undefined;
    const [revision] = await Promise.all([
      this.revisions.find(id, number),
      // The next call must not find the former one.
      row.activeRevision === number && this.changes.followed(id),
    ]);
    if (revision === null) return new RevisionNotFound(id, number);
    // One that has been followed already has taken over too.
    const hasServed = revision.servedAt?.getTime() !== servedAt?.getTime();
    // It was gone back to, and had the calls already.
    if (row.activeRevision === number && !hasServed && !isDivided(row)) {
      if (row.phase === 'creating') return undefined;
      if (row.phase === 'error') return failureOf(id, errorOf(row) ?? { code: 'worker_crashed', message: '' });
    }
    // Beside divided traffic it has workers of its own, which have answered.
    const hasAnswered = isDivided(row) && revision.state === 'ready';
    if (row.activeRevision === number || hasServed || hasAnswered) return { row, revision };
    if (revision.state === 'failed' && revision.error !== null) return failureOf(id, revision.error);
    if (isDivided(row) && revision.state === 'pending') return undefined;
    return new RevisionSuperseded(id, number, row.activeRevision);
  }
}

function layerOf(choice: LayerChoice, wanted: Wanted | undefined): RevisionLayer {
  if (choice.kind !== 'build') return { kind: choice.kind };
  if (wanted?.digest !== undefined) return { kind: 'ready', digest: wanted.digest };
  return { kind: 'build', key: wanted?.key ?? '' };
}

function without(settings: Partial<FunctionSpec>, names: readonly SettingName[]): Partial<FunctionSpec> {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => !names.includes(name as SettingName)));
}

function numberOf(id: FunctionId, number: string): number {
  if (!NUMBER.test(number)) throw new RevisionNotFound(id, number);
  return Number(number);
}
