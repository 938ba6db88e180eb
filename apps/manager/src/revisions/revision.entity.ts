import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';
import type { FunctionSpec } from './function-spec.js';

/** `superseded`: another one was made before it could take over. */
export type RevisionState = 'pending' | 'ready' | 'failed' | 'superseded';

export interface RevisionError extends Omit<WorkloadFault, 'code' | 'at' | 'terminal'> {
  readonly code: string;
}

/** One uploaded file; never changed after it was written. */
@Entity('revisions')
export class RevisionEntity {
  @PrimaryColumn({ name: 'function_id', type: 'text' })
  functionId: string;

  @PrimaryColumn({ type: 'integer' })
  number: number;

  @Column({ name: 'function_name', type: 'text' })
  functionName: string;

  @Column({ type: 'bytea' })
  code: Buffer;

  @Column({ name: 'code_sha256', type: 'text' })
  codeSha256: string;

  /** The settings that its upload has named; null: those that the function's row names. */
  @Column({ type: 'jsonb', nullable: true })
  settings: Partial<FunctionSpec> | null;

  /** The digest of the layer with its packages. */
  @Column({ type: 'text', nullable: true })
  layer: string | null;

  /** The build that it waits for, or has waited for. */
  @Column({ name: 'layer_build', type: 'text', nullable: true })
  layerBuild: string | null;

  /** Why it was made, in its maker's words. */
  @Column({ type: 'text', default: '' })
  message: string;

  /** The name of the key that made it. */
  @Column({ name: 'created_by', type: 'text', nullable: true })
  createdBy: string | null;

  @Column({ type: 'text', default: 'ready' })
  state: RevisionState;

  /** Why it could not take over. */
  @Column({ type: 'jsonb', nullable: true })
  error: RevisionError | null;

  /** When it last took over. */
  @Column({ name: 'served_at', type: 'timestamptz', nullable: true })
  servedAt: Date | null;

  /** Until when whoever made it waits for its packages, unless that is said again. */
  @Column({ name: 'awaited_until', type: 'timestamptz', nullable: true })
  awaitedUntil: Date | null;

  /** Since when it has been seen without calls; null: it has some, or nobody has looked yet. */
  @Column({ name: 'unused_since', type: 'timestamptz', nullable: true })
  unusedSince: Date | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt: Date;
}
