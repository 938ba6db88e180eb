import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

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

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt: Date;
}
