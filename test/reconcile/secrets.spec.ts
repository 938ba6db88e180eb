import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { SecretRepository } from '../../apps/manager/src/secrets/secret.repository.js';
import { createSharedDatabase } from '../support/postgres.js';
import { Installation } from './installation.js';

const MOST = 10;
const WAITING = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;

let here: Installation;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterAll(() => here.close());
afterEach(() => here.reset());

it('has a function look for the new value that was made while its secret changed', async () => {
  const secrets = new SecretRepository(here.database);
  const write = () => {
    const seal = (name: string) => ({
      name,
      version: randomUUID(),
      keyId: 'one',
      nonce: Buffer.alloc(12),
      ciphertext: Buffer.alloc(16),
    });
    return secrets.write('token', null, { isSame: () => false, seal }, MOST);
  };
  await write();
  const early = await here.add({ secrets: { TOKEN: 'token' } });
  const { changed, late } = await here.database.transaction(async (other) => {
    await other('SELECT FROM functions WHERE id = $1 FOR UPDATE', [early]);
    const writing = { over: write() };
    await vi.waitFor(async () => expect(await here.database.query(WAITING)).toHaveLength(1));
    const made = await here.add({ secrets: { TOKEN: 'token' } });
    await here.database.query('UPDATE functions SET reconcile_at = NULL WHERE id = $1', [made]);
    return { changed: writing, late: made };
  });
  expect(await changed.over).toMatchObject({ outcome: 'changed' });
  expect((await here.row(late)).reconcileAt).not.toBeNull();
});
