import { Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import type { Phase } from './function.entity.js';

/** All functions of one phase. */
export interface PhaseCount {
  readonly phase: Phase;
  readonly functions: number;
  readonly replicasWanted: number;
  readonly replicasReady: number;
}

/** All SQL that counts functions. */
@Injectable()
export class CensusRepository {
  constructor(private readonly database: Database) {}

  byPhase(): Promise<PhaseCount[]> {
    return this.database.query<PhaseCount>(
      `SELECT phase, count(*)::integer AS functions, sum(replicas)::integer AS "replicasWanted",
         sum(jsonb_array_length(endpoints))::integer AS "replicasReady"
       FROM functions GROUP BY phase`,
    );
  }

  /** Those of the functions that there still are. */
  async existing(ids: readonly FunctionId[]): Promise<FunctionId[]> {
    const rows = await this.database.query<{ id: FunctionId }>('SELECT id FROM functions WHERE id = ANY ($1)', [ids]);
    return rows.map(({ id }) => id);
  }
}
