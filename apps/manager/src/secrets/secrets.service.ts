import { isDnsLabel } from '#libs/names/dns-label.js';
import type { WorkloadSecrets } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { createHash, randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { InvalidUpload } from '../functions/errors.js';
import { MemoryBudget } from '../memory/memory-budget.js';
import { filesOf, secretsIn, type SecretTarget, type SecretTargets, variablesOf } from '../revisions/secret-targets.js';
import {
  InvalidSecret,
  SecretInUse,
  SecretNotFound,
  SecretsNotConfigured,
  SecretUnreadable,
  TooManySecrets,
} from './errors.js';
import { Keyring } from './keyring.js';
import {
  type SealedSecret,
  SecretRepository,
  type SecretRow,
  type SecretUser,
  type Written,
} from './secret.repository.js';
import { readSecretValue } from './secret-value.js';

/** All of them are listed at once. */
const MOST_SECRETS = 1_000;

export interface SecretOf {
  readonly row: SecretRow;
  readonly users: readonly SecretUser[];
}

/** Values that functions get and that nobody is shown. */
@Injectable()
export class SecretsService {
  constructor(
    private readonly repository: SecretRepository,
    private readonly keyring: Keyring,
    private readonly memory: MemoryBudget,
    @InjectPinoLogger(SecretsService.name) private readonly logger: PinoLogger,
  ) {}

  /** In the order of their names, after this one; without a limit, all. */
  async list(after = '', limit = MOST_SECRETS): Promise<{ secrets: SecretOf[]; isLast: boolean }> {
    const [rows, users] = await Promise.all([this.repository.list(after, limit + 1), this.repository.users(null)]);
    const bySecret = Map.groupBy(users, ({ secret }) => secret);
    const secrets = rows.slice(0, limit).map((row) => ({ row, users: bySecret.get(row.name) ?? [] }));
    return { secrets, isLast: rows.length <= limit };
  }

  /** The same value again changes nothing. Another one replaces the workers of the functions that use it. */
  async put(name: string, request: IncomingMessage, by: string | null): Promise<SecretOf & Pick<Written, 'outcome'>> {
    checkName(name);
    using reservation = this.memory.reserve();
    const value = await readSecretValue(request, reservation);
    if (this.keyring.primaryId === undefined) throw new SecretsNotConfigured();
    const version = randomUUID();
    const seal = () => ({ name, version, ...this.keyring.seal(value, { name, version }) });
    const isSame = (there: SealedSecret) => this.holds(there, value);
    const written = await this.repository.write(name, by, { isSame, seal }, MOST_SECRETS);
    if (written === undefined) throw new TooManySecrets(MOST_SECRETS);
    if (written.outcome !== 'same') this.logger.info({ secret: name, outcome: written.outcome }, 'secret written');
    return { ...written, users: await this.repository.users(name) };
  }

  /** Throws {@link SecretInUse} while a revision that is kept names it: one could go back to that. */
  async remove(name: string): Promise<void> {
    checkName(name);
    const isGone = await this.repository.remove(name, (users) => {
      if (users.length > 0) throw new SecretInUse(name, users.map(shown));
    });
    if (!isGone) throw new SecretNotFound(name);
    this.logger.info({ secret: name }, 'secret removed');
  }

  /** For an upload that names these: each is there and can be read. */
  async require(secrets: SecretTargets): Promise<void> {
    const names = secretsIn(secrets);
    if (names.length === 0) return;
    const found = await this.repository.sealed(names);
    const missing = names.find((name) => !found.some((one) => one.name === name));
    if (missing !== undefined) {
      throw new InvalidUpload('secrets', `There is no secret ${missing}: make it with PUT /secrets/${missing}.`);
    }
    for (const one of found) this.keyring.open(one, one);
  }

  /** What a function's workers get; undefined: nothing. Throws {@link SecretUnreadable}. */
  async of(secrets: SecretTargets): Promise<WorkloadSecrets | undefined> {
    const names = secretsIn(secrets);
    if (names.length === 0) return undefined;
    const sealed = new Map((await this.repository.sealed(names)).map((one) => [one.name, one]));
    const values = new Map(names.map((name) => [name, this.valueOf(name, sealed.get(name))]));
    const given = (targets: readonly SecretTarget[]) =>
      Object.fromEntries(targets.map(({ target, secret }) => [target, values.get(secret) ?? '']));
    const [variables, files] = [variablesOf(secrets), filesOf(secrets)];
    // Not of the values: whoever sees what a replica was made from could try values then.
    const parts = [variables, files].map((targets) =>
      targets
        .toSorted((a, b) => (a.target < b.target ? -1 : 1))
        .map(({ target, secret }) => [target, secret, sealed.get(secret)?.version]),
    );
    const digest = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
    return { variables: given(variables), files: given(files), digest };
  }

  private valueOf(name: string, sealed: SealedSecret | undefined): string {
    if (sealed === undefined) throw new SecretUnreadable(name, 'there is none of that name');
    return this.keyring.open(sealed, sealed);
  }

  /** One that can't be read is replaced. */
  private holds(there: SealedSecret, value: string): boolean {
    try {
      return this.keyring.open(there, there) === value;
    } catch {
      return false;
    }
  }
}

function checkName(name: string): void {
  if (isDnsLabel(name)) return;
  throw new InvalidSecret(
    'name',
    "A secret's name must have lower-case letters, digits and hyphens, at most 63, and begin and end with a letter or digit.",
  );
}

function shown({ id, name, revisions }: SecretUser): string {
  return `${name ?? id} (revision ${revisions.join(', ')})`;
}
