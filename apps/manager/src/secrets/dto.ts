import { DNS_LABEL } from '#libs/names/dns-label.js';
import { ApiProperty } from '@nestjs/swagger';
import type { SecretOf } from './secrets.service.js';
import { LARGEST_SECRET } from './secret-value.js';

/** What a secret is to be. */
export class SecretValueDto {
  @ApiProperty({
    description: `Text, up to ${LARGEST_SECRET / 1024} KiB of UTF-8 and without NUL. Nothing answers it again.`,
    minLength: 1,
    maxLength: LARGEST_SECRET,
    example: 'correct horse battery staple',
    writeOnly: true,
  })
  value: string;
}

export class SecretUserDto {
  @ApiProperty({ description: "The function's id.", example: 'mfrggzdfmztwq2lk' })
  id: string;

  @ApiProperty({ description: 'Its name, or its id where it has none.', example: 'orders' })
  name: string;

  @ApiProperty({
    description: 'Those of its kept revisions that name the secret.',
    type: 'array',
    items: { type: 'integer', minimum: 1 },
    example: [3, 4],
  })
  revisions: number[];
}

/** A secret without its value, which nothing answers. */
export class SecretDto {
  @ApiProperty({ pattern: DNS_LABEL.source, example: 'db-password' })
  name: string;

  @ApiProperty({ description: 'The id of the key in SECRETS_KEYS that it is encrypted with.', example: '2026-11' })
  key: string;

  @ApiProperty({ description: 'RFC 3339, UTC.', format: 'date-time', example: '2026-11-23T12:00:00.000Z' })
  created_at: string;

  @ApiProperty({
    description: 'When its value last changed.',
    format: 'date-time',
    example: '2026-11-23T12:00:00.000Z',
  })
  updated_at: string;

  @ApiProperty({ type: String, nullable: true, description: 'The name of the key that changed it.', example: 'ci' })
  updated_by: string | null;

  @ApiProperty({ type: [SecretUserDto], description: 'The functions that use it.' })
  functions: SecretUserDto[];

  static of({ row, users }: SecretOf): SecretDto {
    return {
      name: row.name,
      key: row.keyId,
      created_at: row.createdAt.toISOString(),
      updated_at: row.updatedAt.toISOString(),
      updated_by: row.updatedBy,
      functions: users.map(({ id, name, revisions }) => ({ id, name: name ?? id, revisions: [...revisions] })),
    };
  }
}
