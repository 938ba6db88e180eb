import { DNS_LABEL } from '#libs/names/dns-label.js';
import { ApiProperty } from '@nestjs/swagger';
import { PHASES, type Phase } from '../functions/function.entity.js';
import { RevisionErrorDto } from '../revisions/dto.js';
import type { RevisionError } from '../revisions/revision.entity.js';

const PERCENT = { type: 'integer', minimum: 0, maximum: 100 } as const;
const MODES = ['auto', 'targets'] as const;
export type TrafficMode = (typeof MODES)[number];

const MODE = {
  enum: MODES,
  enumName: 'TrafficMode',
  description: 'auto: the revision that was last made has all calls. targets: they are divided as users say.',
};
const SHOWN_MODE = { ...MODE, example: 'targets' as TrafficMode };

export class TargetDto {
  @ApiProperty({ type: 'integer', minimum: 1, maximum: 999_999_999, example: 3 })
  revision: number;

  @ApiProperty({ ...PERCENT, description: 'Of all calls; 0: only those that name it.', example: 90 })
  percent: number;

  @ApiProperty({
    required: false,
    nullable: true,
    type: String,
    pattern: DNS_LABEL.source,
    description: 'What calls may name in place of the number.',
  })
  tag?: string | null;
}

export class SetTrafficDto {
  @ApiProperty({ ...MODE, required: false })
  mode?: TrafficMode;

  @ApiProperty({ type: [TargetDto], required: false, minItems: 1, maxItems: 10, description: '100 percent together.' })
  targets?: TargetDto[];
}

export class ServedTargetDto {
  @ApiProperty({ type: 'integer', minimum: 1, example: 3 })
  revision: number;

  @ApiProperty({ ...PERCENT, example: 90 })
  percent: number;

  @ApiProperty({ nullable: true, type: String, example: null })
  tag: string | null;

  @ApiProperty({ enum: PHASES, enumName: 'FunctionStatus', example: 'running' })
  status: Phase;

  @ApiProperty({ description: 'Replicas wanted.', type: 'integer', minimum: 0, example: 2 })
  replicas: number;

  @ApiProperty({ description: 'Replicas that answer.', type: 'integer', minimum: 0, example: 2 })
  ready_replicas: number;

  @ApiProperty({ description: 'Its first worker on the engine.', example: 'faas-worker-mfrggzdfmztwq2lk' })
  container_name: string;
}

export class PendingTrafficDto {
  @ApiProperty(SHOWN_MODE)
  mode: TrafficMode;

  @ApiProperty({ type: [TargetDto] })
  targets: TargetDto[];

  @ApiProperty({ type: RevisionErrorDto, nullable: true, description: 'Why it was given up; null: it is on its way.' })
  error: RevisionError | null;
}

export class TrafficDto {
  @ApiProperty(SHOWN_MODE)
  mode: TrafficMode;

  @ApiProperty({ type: [ServedTargetDto], description: 'The revisions that have calls, or a tag.' })
  targets: ServedTargetDto[];

  @ApiProperty({ type: PendingTrafficDto, nullable: true, description: 'What was asked for last and is not served.' })
  pending: PendingTrafficDto | null;
}
