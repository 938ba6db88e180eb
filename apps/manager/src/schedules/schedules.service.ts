import { isDnsLabel } from '#libs/names/dns-label.js';
import type { InvocationsConfig, LimitsConfig } from '#libs/config/config.js';
import { INVOCATIONS_CONFIG, LIMITS_CONFIG } from '#libs/config/config.module.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { FunctionNotFound } from '../functions/errors.js';
import type { FunctionEntity } from '../functions/function.entity.js';
import { FunctionsService } from '../functions/functions.service.js';
import type { Members } from '../invocations/invocation-request.js';
import { ScheduleNotFound } from './errors.js';
import type { Schedule } from './schedule.js';
import { checkName, specIn } from './schedule-request.js';
import { type Firing, type Precondition, ScheduleRepository, type Written } from './schedule.repository.js';

const RUNS_SHOWN = 10;

/** A change of a schedule as it is asked for. */
export interface Asked extends Precondition {
  readonly named: (id: FunctionId) => void;
}

/** When functions are called without anybody calling them. */
@Injectable()
export class SchedulesService {
  constructor(
    private readonly functions: FunctionsService,
    private readonly repository: ScheduleRepository,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    @Inject(INVOCATIONS_CONFIG) private readonly config: InvocationsConfig,
    @InjectPinoLogger(SchedulesService.name) private readonly logger: PinoLogger,
  ) {}

  /** In the order of their names, after this one. */
  async list(reference: string, after: string, limit: number): Promise<{ rows: Schedule[]; isLast: boolean }> {
    const of = await this.functionBy(reference);
    const rows = await this.repository.list(of.id, after, limit + 1);
    return { rows: rows.slice(0, limit).map((row) => shown(row, of)), isLast: rows.length <= limit };
  }

  async find(reference: string, name: string): Promise<{ readonly row: Schedule; readonly runs: readonly Firing[] }> {
    const of = await this.functionBy(reference);
    const row = isDnsLabel(name) ? await this.repository.find(of.id, name) : null;
    if (row === null) throw new ScheduleNotFound(reference, name);
    return { row: shown(row, of), runs: await this.repository.firings(of.id, name, RUNS_SHOWN) };
  }

  /** The same again changes nothing, unless it is paused: then it goes on. */
  async put(
    reference: string,
    name: string,
    body: Members,
    { versions, mustExist, named, by }: Asked & { readonly by: string | null },
  ): Promise<Written & { readonly runs: readonly Firing[] }> {
    checkName(name);
    const of = await this.functionBy(reference);
    const { id } = of;
    named(id);
    const spec = specIn(body, { ...this.limits, ...this.config, defaults: of.invocation_defaults }, new Date());
    const written = await this.repository.write({ functionId: id, name }, spec, { versions, mustExist }, by);
    if (written.outcome !== 'same') {
      this.logger.info({ functionId: id, schedule: name, outcome: written.outcome }, 'schedule written');
    }
    const runs = await this.repository.firings(id, name, RUNS_SHOWN);
    return { ...written, row: shown(written.row, of), runs };
  }

  async remove(reference: string, name: string, { versions, named }: Pick<Asked, 'versions' | 'named'>): Promise<void> {
    const { id } = await this.functionBy(reference);
    named(id);
    if (!isDnsLabel(name) || !(await this.repository.remove({ functionId: id, name }, versions))) {
      throw new ScheduleNotFound(reference, name);
    }
    this.logger.info({ functionId: id, schedule: name }, 'schedule removed');
  }

  private async functionBy(reference: string): Promise<FunctionEntity> {
    const row = await this.functions.find(reference);
    if (row.deletedAt !== null) throw new FunctionNotFound(reference);
    return row;
  }
}

/** One whose function is disabled rests from when it is due on, and shows so before. */
function shown(row: Schedule, { enabled }: FunctionEntity): Schedule {
  return enabled ? row : { ...row, isResting: true };
}
