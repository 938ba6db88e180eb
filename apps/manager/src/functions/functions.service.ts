import type { Scope } from '#libs/config/api-keys.js';
import type { FunctionDefaults, LimitsConfig } from '#libs/config/config.js';
import { FUNCTION_DEFAULTS, LIMITS_CONFIG } from '#libs/config/config.module.js';
import { AppError } from '#libs/errors/app-error.js';
import { InternalError } from '#libs/errors/errors.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable, StreamableFile } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isDeepStrictEqual } from 'node:util';
import { requireAdmin, scopeOf } from '../auth/audit.js';
import { MemoryBudget, type MemoryReservation } from '../memory/memory-budget.js';
import { columnsOf } from '../revisions/function-spec.js';
import { InstallationPolicy } from '../revisions/installation-policy.js';
import { noteUncounted } from '../http/client-connection.js';
import { FunctionDetailDto, FunctionDto } from './dto/function.dto.js';
import { type Metadata, metadataOf, UNNAMED } from './dto/metadata.dto.js';
import { layerChoice } from '../layers/layer-choice.js';
import { LayersService } from '../layers/layers.service.js';
import { CodeReader } from '../revisions/code-reader.js';
import { SecretsService } from '../secrets/secrets.service.js';
import { InlineReconciler } from './inline-reconciler.js';
import {
  EngineUnavailable,
  FunctionNotFound,
  FunctionNotReady,
  InvalidUpdate,
  InvalidUpload,
  VersionOutdated,
} from './errors.js';
import { FunctionChanges } from './function-changes.js';
import { type FunctionEntity, newestServing } from './function.entity.js';
import { isFunctionId, newFunctionId } from './function-id.js';
import { FunctionRepository, type NewFunction } from './function.repository.js';
import { linkToNext } from '../http/pages.js';
import { type Filter, type Page, queryOf } from './page.js';
import { readUpdate, updated } from './update.js';
import { uploadFailure, uploadVerdict } from './upload-verdict.js';
import { FORM_OVERHEAD_BYTES } from './upload-form.js';
import { readRun, readUpload, type Upload } from './upload.js';

/** How long a removal may take before it is answered with 202 and goes on by itself. */
const REMOVAL_WAIT_MS = 20_000;
/** The same where the engine refused the function: its upload is answered, though pods may take seconds to end. */
const REFUSED_REMOVAL_WAIT_MS = 500;
/**
 * If the manager crashes during an upload, the function is removed this much later than its own wait would have ended.
 */
const PROVISIONAL_MARGIN_MS = 15_000;
/** How long the removal of a failed upload is tried while the database is away. */
const REMOVE_LATER_MS = 10 * 60_000;

/** The memory of an upload on its way to the database and the first worker, in times the size of its file. */
export const UPLOAD_TIMES = 3.5;

export interface Removal {
  readonly finished: boolean;
  readonly row: FunctionEntity;
}

interface Creation extends Metadata {
  readonly createdBy: string | null;
  /** Called with the id as soon as there is one. */
  readonly named?: (id: FunctionId) => void;
  /** It is there for one call, which takes so long at most. */
  readonly runMs?: number;
}

/** A function on its way to its first worker. */
export interface Started {
  readonly id: FunctionId;
  /** How long that may take. */
  readonly withinMs: number;
  /** Why it will have none. Undefined once it has one, or nobody waits any more. Never rejects. */
  readonly failure: Promise<AppError | undefined>;
}

/** What users do with functions: writes what is wanted and waits until the reconcile loop has made it so. */
@Injectable()
export class FunctionsService {
  private readonly codes: CodeReader;

  constructor(
    private readonly repository: FunctionRepository,
    private readonly changes: FunctionChanges,
    private readonly inline: InlineReconciler,
    private readonly orchestrator: Orchestrator,
    private readonly memory: MemoryBudget,
    @Inject(FUNCTION_DEFAULTS) private readonly defaults: FunctionDefaults,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    private readonly policy: InstallationPolicy,
    private readonly secrets: SecretsService,
    private readonly layers: LayersService,
    @InjectPinoLogger(FunctionsService.name) private readonly logger: PinoLogger,
  ) {
    this.codes = new CodeReader(repository);
  }

  /**
   * Resolves when the handler answers a readiness probe. Otherwise removes the function and throws the reason. `named`
   * is called with the id as soon as there is one.
   */
  async add(
    request: IncomingMessage,
    createdBy: string | null,
    named: (id: FunctionId) => void,
  ): Promise<FunctionEntity> {
    using reservation = this.memory.reserve();
    const { fileBytes, counted } = this.bounds(reservation);
    const upload = await readUpload(request, fileBytes, this.policy, counted);
    mayReceive(request, upload.metadata);
    const fault = this.policy.faultOf(upload.metadata);
    if (fault) throw new InvalidUpload(fault.field, fault.message);
    return this.ready(await this.create(upload, { createdBy, named, ...upload.metadata }));
  }

  /**
   * Has `work` use the code as a function that nobody else sees, which has yet to begin, and removes it whatever becomes
   * of that. Nobody waits for it once `leaving` aborts, at the latest when the answer has been sent.
   */
  async once<T>(
    request: IncomingMessage,
    createdBy: string | null,
    leaving: AbortSignal,
    work: (started: Started, payload: string) => Promise<T>,
  ): Promise<T> {
    using reservation = this.memory.reserve();
    const { fileBytes, counted } = this.bounds(reservation);
    const upload = await readRun(request, fileBytes, this.policy, counted);
    const id = await this.create(upload, { createdBy, runMs: upload.spec.timeout_ms, ...UNNAMED });
    const over = new AbortController();
    const failure = this.failureToStart(id, AbortSignal.any([leaving, over.signal]));
    try {
      return await work({ id, withinMs: this.defaults.readyTimeoutMs, failure }, upload.payload);
    } finally {
      over.abort();
      // Once its answer has gone out, which needs the processor first. It goes by itself at its end should that not be
      // written down.
      const remove = () => void this.removeLater(id);
      if (leaving.aborted) remove();
      else leaving.addEventListener('abort', remove, { once: true });
    }
  }

  private bounds(reservation: MemoryReservation) {
    const fileBytes = Math.min(this.limits.uploadBytes, this.orchestrator.capabilities.largestCodeBytes);
    const times = this.memory.timesOf(UPLOAD_TIMES, fileBytes + FORM_OVERHEAD_BYTES);
    return { fileBytes, counted: { add: (bytes: number) => reservation.add(Math.ceil(bytes * times)) } };
  }

  private async create(
    { functionName, code, spec, said }: Omit<Upload, 'metadata'>,
    { createdBy, named, runMs, ...metadata }: Creation,
  ): Promise<FunctionId> {
    await this.secrets.require(spec.secrets);
    const layer = await this.layerOf(said.includes('requirements') ? spec.requirements : undefined, code);
    const { pids, readyTimeoutMs } = this.defaults;
    const id = newFunctionId();
    named?.(id);
    const codeSha256 = createHash('sha256').update(code).digest('hex');
    const wanted: NewFunction = {
      id,
      functionName,
      ...metadata,
      ...columnsOf(spec),
      said,
      replicas: Math.max(1, spec.min_replicas),
      pids,
      code,
      codeSha256,
      createdBy,
      layerDigest: layer,
      isRun: runMs !== undefined,
      provisionalForMs: readyTimeoutMs + PROVISIONAL_MARGIN_MS + (runMs ?? 0),
    };
    const revision = { number: 1, functionName, code, codeSha256, layer };
    await this.inline.write(id, async (lease) => ({
      row: await this.repository.insert(wanted, lease),
      revision,
      isFresh: true,
    }));
    this.logger.info({ functionId: id, functionName, bytes: code.length }, 'function added');
    return id;
  }

  /** The digest of the layer with what the upload asks for, which is built first. */
  private async layerOf(requirements: string | null | undefined, code: Buffer): Promise<string | null> {
    const choice = layerChoice({ requirements, code, allowsUrls: this.layers.allowsUrls });
    return choice.kind === 'build' ? this.layers.obtain(await this.layers.look(choice.requirements)) : null;
  }

  /** `next`: the link to the page that follows, where there is one. */
  async list(
    { limit, after }: Page,
    filter: Filter,
    scope: Scope,
  ): Promise<{ functions: FunctionDto[]; next: string | undefined }> {
    // One more than asked for tells whether there is a next page.
    const rows = await this.repository.list({ limit: limit === undefined ? undefined : limit + 1, after, ...filter });
    const shown = rows.slice(0, limit);
    const last = shown.at(-1);
    const next =
      limit !== undefined && last && rows.length > limit
        ? linkToNext('/functions', limit, last.position, queryOf(filter))
        : undefined;
    return { functions: shown.map((row) => FunctionDto.of(row, scope)), next };
  }

  async detail(row: FunctionEntity, scope: Scope): Promise<FunctionDetailDto> {
    const codeSha256 = await this.repository.codeSha256(row.id, newestServing(row));
    if (codeSha256 === null) throw new FunctionNotFound(row.id);
    return FunctionDetailDto.detail(row, codeSha256, scope);
  }

  /**
   * Changes what users say of a function, if it has one of `versions`; unset: whichever it has. Throws
   * {@link VersionOutdated}, {@link NameTaken} or {@link InvalidUpdate}.
   */
  async update(
    reference: string,
    request: IncomingMessage,
    versions: readonly number[] | undefined,
    named: (id: FunctionId) => void,
  ): Promise<FunctionEntity> {
    using reservation = this.memory.reserve();
    const update = await readUpdate(request, reservation);
    const { id } = await this.find(reference);
    named(id);
    for (;;) {
      const row = await this.find(id);
      if (row.deletedAt !== null) throw new FunctionNotFound(reference);
      if (versions?.includes(row.version) === false) throw new VersionOutdated(id, row.version);
      const after = updated(row, update, scopeOf(request));
      // What was allowed when it was said stands in the way of no other change.
      if ('invocation_defaults' in update) {
        if (after.invocation_defaults.callback_url !== row.invocation_defaults.callback_url) mayReceive(request, after);
        const fault = this.policy.faultOf(after);
        if (fault) throw new InvalidUpdate(fault.field, fault.message);
      }
      if (isDeepStrictEqual(after, metadataOf(row))) return row;
      // Null: somebody else was faster, and their change stays.
      const written = await this.repository.describe(id, row.version, after);
      if (written === null) continue;
      // The next call here must find it so.
      await this.changes.followed(id);
      return written;
    }
  }

  /** The uploaded file. Its memory is reserved until `response` has been sent. */
  async code({ id }: FunctionEntity, revision: number, response: ServerResponse): Promise<StreamableFile> {
    const reservation = this.memory.reserveUntilClosed(response);
    noteUncounted(response, false);
    const bytes = await this.repository.codeBytes(id, revision);
    if (bytes !== null) reservation.add(bytes);
    const leaving = new AbortController();
    if (response.destroyed) leaving.abort();
    else response.once('close', () => leaving.abort());
    const code = await this.codes.read(id, revision, leaving.signal);
    if (code === null) throw new FunctionNotFound(id);
    return new StreamableFile(code, {
      type: isUtf8(code) ? 'text/x-python; charset=utf-8' : 'text/x-python',
      disposition: 'attachment; filename="handler.py"',
    });
  }

  /**
   * Removes a function. If that takes too long it is recorded: calls are refused from now on, and the loop finishes
   * it.
   */
  async remove(
    reference: string,
    versions: readonly number[] | undefined,
    named: (id: FunctionId) => void,
  ): Promise<Removal> {
    const id = isFunctionId(reference) ? reference : (await this.find(reference)).id;
    named(id);
    const row = await this.repository.markDeleted(id, versions);
    if (row === null) throw new VersionOutdated(id, (await this.find(reference)).version);
    return { finished: await this.gone(row.id), row };
  }

  /** By id or name. Throws {@link FunctionNotFound}. */
  async find(reference: string): Promise<FunctionEntity> {
    const row = await this.repository.findBy(reference);
    if (row === null) throw new FunctionNotFound(reference);
    return row;
  }

  private async ready(id: FunctionId): Promise<FunctionEntity> {
    const { verdict, last } = await this.judged(id);
    if (verdict !== undefined && !(verdict instanceof AppError)) return verdict;
    const failure = verdict ?? uploadFailure(id, last, this.defaults.readyTimeoutMs);
    await this.removeFailed(
      id,
      failure,
      verdict instanceof FunctionNotReady ? REFUSED_REMOVAL_WAIT_MS : REMOVAL_WAIT_MS,
    );
    throw failure;
  }

  /** Never rejects. Undefined once it runs, or `over` aborts. */
  private async failureToStart(id: FunctionId, over: AbortSignal): Promise<AppError | undefined> {
    const failure = await this.judged(id, over)
      .then(({ verdict, last }) => verdict ?? uploadFailure(id, last, this.defaults.readyTimeoutMs))
      .catch((error: unknown) => (error instanceof AppError ? error : new InternalError(error)));
    if (over.aborted || !(failure instanceof AppError)) return undefined;
    this.logger.info({ functionId: id, code: failure.code, reason: failure.message }, 'run failed to start');
    return failure;
  }

  /** The outcome of an upload; undefined: there is none within its time, or before `over` has aborted. */
  private async judged(id: FunctionId, over?: AbortSignal) {
    let last: FunctionEntity | null = null;
    const look = async () => {
      last = await this.repository.find(id);
      return uploadVerdict(id, last);
    };
    const verdict = await this.changes.until(id, this.defaults.readyTimeoutMs, look, over);
    return { verdict, last };
  }

  private async removeFailed(id: FunctionId, failure: AppError, waitMs: number): Promise<void> {
    this.logger.info(
      { functionId: id, code: failure.code, reason: failure.message },
      'upload failed, removing the function',
    );
    const marked = await this.repository.markDeleted(id).catch((error: unknown) => {
      void this.removeLater(id);
      throw error;
    });
    if (marked === null) return;
    if (failure instanceof EngineUnavailable) return;
    await this.gone(id, waitMs);
  }

  /** Also where the database is away now. */
  private async removeLater(id: FunctionId): Promise<void> {
    const recorded = await this.changes
      .until(id, REMOVE_LATER_MS, async () => ((await this.repository.markDeleted(id)) === null ? 'gone' : 'marked'))
      .catch(() => undefined);
    if (recorded === undefined) this.logger.error({ functionId: id }, 'a function could not be removed');
  }

  private async gone(id: FunctionId, waitMs = REMOVAL_WAIT_MS): Promise<boolean> {
    const gone = await this.changes.until(id, waitMs, async () => {
      const row = await this.repository.find(id);
      if (row === null) return 'gone';
      return row.reason?.code === 'orchestrator_unavailable' ? 'waiting' : undefined;
    });
    return gone === 'gone';
  }
}

/** Results go to nobody who may not call. Throws {@link Forbidden}. */
function mayReceive(request: IncomingMessage, { invocation_defaults }: Pick<Metadata, 'invocation_defaults'>): void {
  if (invocation_defaults.callback_url !== undefined) requireAdmin(request);
}
