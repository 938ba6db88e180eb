import type { FunctionDefaults } from '#libs/config/config.js';
import { FUNCTION_DEFAULTS } from '#libs/config/config.module.js';
import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { FunctionRemoved } from '../functions/errors.js';
import { FunctionChanges } from '../functions/function-changes.js';
import { type FunctionEntity, servingOf } from '../functions/function.entity.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { FunctionsService } from '../functions/functions.service.js';
import { failureOf } from '../revisions/errors.js';
import type { TrafficDto } from './dto.js';
import { TrafficSuperseded } from './errors.js';
import { TrafficRepository, type Wish } from './traffic.repository.js';

export interface ShownTraffic {
  readonly row: FunctionEntity;
  readonly traffic: TrafficDto;
}

/** Which revisions have how many of a function's calls. */
@Injectable()
export class TrafficService {
  constructor(
    private readonly functions: FunctionsService,
    private readonly repository: FunctionRepository,
    private readonly traffic: TrafficRepository,
    private readonly changes: FunctionChanges,
    @Inject(FUNCTION_DEFAULTS) private readonly config: Pick<FunctionDefaults, 'readyTimeoutMs'>,
    @InjectPinoLogger(TrafficService.name) private readonly logger: PinoLogger,
  ) {}

  async find(reference: string): Promise<ShownTraffic> {
    return this.shown(await this.functions.find(reference));
  }

  /**
   * Resolves when the traffic is served as asked: all workers for it are ready. Otherwise it stays as it was, and the
   * reason is thrown.
   */
  async set(
    reference: string,
    wish: Wish,
    { versions, named }: { versions: readonly number[] | undefined; named: (id: FunctionId) => void },
  ): Promise<ShownTraffic> {
    const { id } = await this.functions.find(reference);
    named(id);
    return this.shown(await this.serve(id, wish, versions));
  }

  /** The same of one that is known; resolves with the row that says so. */
  async serve(id: FunctionId, wish: Wish, versions: readonly number[] | undefined): Promise<FunctionEntity> {
    const asked = { versions, withinMs: this.config.readyTimeoutMs };
    const { row, version } = await this.traffic.want(id, wish, asked);
    this.logger.info({ functionId: id, targets: wish }, 'traffic asked for');
    const look = async () => verdictOf(id, await this.repository.find(id), version);
    let verdict = verdictOf(id, row, version) ?? (await this.changes.until(id, this.config.readyTimeoutMs, look));
    if (verdict === undefined) {
      await this.traffic.settle(id, version);
      verdict = (await look()) ?? new TrafficSuperseded(id);
    }
    if (verdict instanceof AppError) throw verdict;
    // The next call must find it so.
    await this.changes.followed(id);
    return verdict;
  }

  private async shown(row: FunctionEntity): Promise<ShownTraffic> {
    const { traffic, wantedTraffic: wanted } = row;
    const targets = traffic?.targets ?? [{ revision: servingOf(row), percent: 100, workload: row.id }];
    const rows = await Promise.all(targets.map(({ workload }) => this.repository.find(workload)));
    return {
      row,
      traffic: {
        mode: traffic === null ? 'auto' : 'targets',
        targets: targets.map(({ revision, percent, tag, workload }, index) => ({
          revision,
          percent,
          tag: tag ?? null,
          status: rows[index]?.phase ?? 'stopped',
          replicas: rows[index]?.replicas ?? 0,
          ready_replicas: rows[index]?.endpoints.length ?? 0,
          container_name: `faas-worker-${workload}`,
        })),
        pending: wanted && {
          mode: wanted.isAuto ? 'auto' : 'targets',
          targets: wanted.targets.map(({ revision, percent, tag }) => ({
            revision,
            percent,
            tag: tag ?? null,
          })),
          error: wanted.fault,
        },
      },
    };
  }
}

/** The row that serves what was asked for at this version, or why none ever will; undefined: it is on its way. */
function verdictOf(id: FunctionId, row: FunctionEntity | null, version: number): FunctionEntity | AppError | undefined {
  if (row === null || row.deletedAt !== null) return new FunctionRemoved(id);
  const { traffic, wantedTraffic: wanted } = row;
  if (wanted?.version === version) return wanted.fault === null ? undefined : failureOf(id, wanted.fault);
  const newer = wanted?.version ?? traffic?.version ?? 0;
  return newer > version ? new TrafficSuperseded(id) : row;
}
