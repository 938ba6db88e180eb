import type { Scope } from '#libs/config/api-keys.js';
import { ApiProperty, type ApiParamOptions } from '@nestjs/swagger';
import { DocumentSettings, FunctionSpec, specOf } from '../../revisions/function-spec.js';
import { type InvocationPolicy, InvocationPolicyDto, shownUrl } from '../../invocations/invocation-policy.js';
import { type HistorySetting, HistorySettingDto } from './history-setting.dto.js';
import { type FunctionEntity, type ListedFunction, type Phase, PHASES } from '../function.entity.js';

/** The part of a path that names a function. */
export const FUNCTION_ID: ApiParamOptions = {
  name: 'id',
  description: "The function's id or its name.",
  schema: { type: 'string', example: 'mfrggzdfmztwq2lk' },
};

/** The function object of the REST contract. */
@DocumentSettings('members')
export class FunctionDto extends FunctionSpec {
  @ApiProperty({
    description: '16 lower-case base32 characters.',
    pattern: '^[a-z2-7]{16}$',
    example: 'mfrggzdfmztwq2lk',
  })
  id: string;

  @ApiProperty({
    description: 'What paths take as well as the id. It is the id where no name was given.',
    example: 'greet',
  })
  name: string;

  @ApiProperty({ description: 'For people.', example: 'Greets whoever calls it.' })
  description: string;

  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' }, example: { team: 'web' } })
  labels: Readonly<Record<string, string>>;

  @ApiProperty({ description: 'False: calls are refused.', example: true })
  enabled: boolean;

  @ApiProperty({ description: 'True: everybody may call it over HTTP without a key.', example: false })
  public: boolean;

  @ApiProperty({
    type: InvocationPolicyDto,
    description:
      'What its calls for later have that say nothing else. Members that are left out follow the installation. `callback_url` has its query, where a secret belongs, only for keys of scope `admin`; others leave it as it is by sending it back as they see it.',
    example: { max_attempts: 5 },
  })
  invocation_defaults: InvocationPolicy;

  @ApiProperty({ type: HistorySettingDto, description: 'What is kept of its calls.', example: { payloads: 0.1 } })
  history: HistorySetting;

  @ApiProperty({ description: 'The callable inside the uploaded file.', example: 'handle' })
  function_name: string;

  @ApiProperty({ example: 'function.handler.handle' })
  handler_path: string;

  @ApiProperty({
    description: 'Docker container id, Kubernetes Deployment name or local process name; empty while nothing runs.',
    example: '4f1c9a4be7d1',
  })
  container_id: string;

  @ApiProperty({ example: 'faas-worker-mfrggzdfmztwq2lk' })
  container_name: string;

  @ApiProperty({
    description: "The worker's port on the host (Docker) or the Service's port (Kubernetes); 0 where there is none.",
    type: 'integer',
    minimum: 0,
    maximum: 65_535,
    example: 49153,
  })
  host_port: number;

  @ApiProperty({ enum: PHASES, enumName: 'FunctionStatus', example: 'running' })
  status: Phase;

  @ApiProperty({ description: 'RFC 3339, UTC.', format: 'date-time', example: '2026-11-23T12:00:00.000Z' })
  created_at: string;

  /** @param scope whose key sees it */
  static of(row: ListedFunction, scope: Scope): FunctionDto {
    const { callback_url: url, ...defaults } = row.invocation_defaults;
    const isShown = !url || scope === 'admin';
    return {
      id: row.id,
      name: row.name ?? row.id,
      description: row.description,
      labels: row.labels,
      enabled: row.enabled,
      public: row.public,
      invocation_defaults: isShown ? row.invocation_defaults : { ...defaults, callback_url: shownUrl(url) },
      history: row.history,
      function_name: row.functionName,
      handler_path: `function.handler.${row.functionName}`,
      container_id: row.primaryReplica,
      container_name: `faas-worker-${row.id}`,
      host_port: row.hostPort,
      status: row.phase,
      created_at: row.createdAt.toISOString(),
      ...specOf(row),
    };
  }
}

/** One thing that is true or not of a function, and why. */
export class ConditionDto {
  @ApiProperty({ enum: ['Ready', 'Reconciled'], example: 'Ready' })
  type: 'Ready' | 'Reconciled';

  @ApiProperty({ example: true })
  status: boolean;

  @ApiProperty({ description: 'One stable word for the reason.', example: 'replicas_ready' })
  reason: string;

  @ApiProperty({ example: '1 of 1 replicas answer.' })
  message: string;

  @ApiProperty({ format: 'date-time', example: '2026-11-23T12:00:00.400Z' })
  since: string;
}

export class LastErrorDto {
  @ApiProperty({ example: 'out_of_memory' })
  code: string;

  @ApiProperty({ example: 'The worker was ended because it reached its memory limit of 512 MiB.' })
  message: string;

  @ApiProperty({ description: 'Traceback or last log lines.', type: String, nullable: true, example: 'exit code 137' })
  detail: string | null;

  @ApiProperty({ format: 'date-time', example: '2026-11-23T12:03:10.000Z' })
  at: string;
}

/** A function object with what explains its state. */
export class FunctionDetailDto extends FunctionDto {
  @ApiProperty({ type: [ConditionDto] })
  conditions: ConditionDto[];

  @ApiProperty({ type: LastErrorDto, nullable: true, description: 'The last thing that went wrong, healed or not.' })
  last_error: LastErrorDto | null;

  @ApiProperty({ description: 'Replicas wanted.', type: 'integer', minimum: 0, example: 1 })
  replicas: number;

  @ApiProperty({ description: 'Replicas that answer.', type: 'integer', minimum: 0, example: 1 })
  ready_replicas: number;

  @ApiProperty({
    description: 'Hex SHA-256 of the uploaded file.',
    pattern: '^[0-9a-f]{64}$',
    example: 'b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9',
  })
  code_sha256: string;

  static detail(row: FunctionEntity, codeSha256: string, scope: Scope): FunctionDetailDto {
    return {
      ...FunctionDto.of(row, scope),
      conditions: conditionsOf(row),
      last_error: row.lastFault && {
        code: row.lastFault.code,
        message: row.lastFault.message,
        detail: row.lastFault.detail ?? null,
        at: row.lastFault.at,
      },
      replicas: row.replicas,
      ready_replicas: row.endpoints.length,
      code_sha256: codeSha256,
    };
  }
}

const SLEEPING = 'Nobody called it for its idle time, so no replica runs; the next call starts one.';

function conditionsOf(row: FunctionEntity): ConditionDto[] {
  const ready = row.phase === 'running';
  const idle = row.phase === 'idle';
  const since = row.phaseSince.toISOString();
  const reconciled = row.observedGeneration === row.generation && row.reason === null;
  const counted = `${row.endpoints.length} of ${row.replicas} replicas answer.`;
  return [
    {
      type: 'Ready',
      status: ready,
      reason: ready ? 'replicas_ready' : (row.reason?.code ?? row.phase),
      message: idle ? SLEEPING : ready ? counted : (row.reason?.message ?? counted),
      since,
    },
    {
      type: 'Reconciled',
      status: reconciled,
      reason: reconciled ? 'as_wanted' : (row.reason?.code ?? 'in_progress'),
      message: reconciled
        ? 'The engine holds what is wanted.'
        : (row.reason?.message ?? 'The engine is being brought up to date.'),
      since: row.reason?.at ?? since,
    },
  ];
}
