import { ApiProperty, PartialType } from '@nestjs/swagger';
import { DocumentSettings, FunctionSpec } from './function-spec.js';
import type { BuildRow } from '../layers/layer.repository.js';
import type { RevisionState } from './revision.entity.js';
import { type FunctionEntity, isServing } from '../functions/function.entity.js';
import type { RevisionRow } from './revision.repository.js';

export interface RevisionOf {
  readonly row: FunctionEntity;
  readonly revision: RevisionRow;
  /** How far its packages are, while it waits for them. */
  readonly build?: BuildRow | undefined;
}

export const REVISION_STATES = ['pending', 'ready', 'failed', 'superseded'] as const satisfies RevisionState[];

export class RevisionErrorDto {
  @ApiProperty({ description: 'The code of the problem that its maker got.', example: 'handler_not_loadable' })
  code: string;

  @ApiProperty({ example: "SyntaxError: '(' was never closed (line 3)" })
  message: string;

  @ApiProperty({ description: 'Traceback or last log lines.', type: String, nullable: true, example: null })
  detail: string | null;
}

/** How far the packages of a revision are that waits for them. */
export class BuildDto {
  // Without a name: clients in Go would have two constants of one.
  @ApiProperty({ enum: ['building', 'ready', 'failed'], example: 'building' })
  status: BuildRow['state'];

  @ApiProperty({ type: 'integer', minimum: 0, description: 'Since it began, in milliseconds.', example: 1_800 })
  elapsed_ms: number;

  @ApiProperty({
    type: [String],
    description: 'What it has printed last.',
    example: ['Resolved 5 packages in 300ms', 'Prepared 5 packages in 90ms'],
  })
  last_lines: readonly string[];
}

/** A revision of a function, with those settings that it names; the others follow the installation. */
@DocumentSettings('json')
export class RevisionDto extends PartialType(FunctionSpec) {
  @ApiProperty({ type: 'integer', minimum: 1, example: 2 })
  revision: number;

  @ApiProperty({ description: 'The callable inside its file.', example: 'handle' })
  function_name: string;

  @ApiProperty({
    enum: REVISION_STATES,
    enumName: 'RevisionStatus',
    description: 'pending: on its way. failed: it could not serve. superseded: another one came before it was ready.',
    example: 'ready',
  })
  status: RevisionState;

  @ApiProperty({ description: 'Whether it has the calls.', example: true })
  serving: boolean;

  @ApiProperty({ description: 'Why there is this revision, in the words of its maker.', example: 'Greets in French' })
  message: string;

  @ApiProperty({ type: String, nullable: true, description: 'The name of the key that made it.', example: 'ci' })
  created_by: string | null;

  @ApiProperty({ description: 'RFC 3339, UTC.', format: 'date-time', example: '2026-11-23T12:00:00.000Z' })
  created_at: string;

  @ApiProperty({ type: RevisionErrorDto, nullable: true, description: 'Why it could not serve.' })
  error: RevisionErrorDto | null;

  @ApiProperty({
    description: 'Hex SHA-256 of its file.',
    pattern: '^[0-9a-f]{64}$',
    example: 'b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9',
  })
  code_sha256: string;

  @ApiProperty({
    type: String,
    nullable: true,
    pattern: '^[0-9a-f]{64}$',
    description: 'Names the layer with its packages: the same lock, Python and machine have the same.',
    example: '5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9',
  })
  layer: string | null;

  @ApiProperty({ type: BuildDto, nullable: true, description: 'While it waits for its packages: how far they are.' })
  build: BuildDto | null;

  static of({ row, revision, build }: RevisionOf): RevisionDto {
    const { error } = revision;
    return {
      revision: revision.number,
      function_name: revision.functionName,
      status: revision.state,
      serving: isServing(row, revision.number),
      message: revision.message,
      created_by: revision.createdBy,
      created_at: revision.createdAt.toISOString(),
      error: error && { code: error.code, message: error.message, detail: error.detail ?? null },
      code_sha256: revision.codeSha256,
      layer: revision.layer,
      build: build
        ? { status: build.state, elapsed_ms: Math.round(build.elapsedMs), last_lines: build.lastLines }
        : null,
      ...revision.settings,
    };
  }
}

export class RollbackDto {
  @ApiProperty({
    required: false,
    type: 'integer',
    minimum: 1,
    maximum: 999_999_999,
    description: 'The revision to go back to; without it the one that had the calls before.',
  })
  revision?: number;
}
