import { createHash, createHmac, randomBytes } from 'node:crypto';

/** The header that a manager shows its token in: docs/worker-protocol.md. */
export const TOKEN_HEADER = 'x-faas-token';

/** What lets a replica know its managers. Only `sha256` is told to it, and only `credential` is written down. */
export interface CallToken {
  /** Anybody may read it; with the installation's key it makes the token. Stored where any manager finds the replica. */
  readonly credential: string;
  readonly token: string;
  /** In lower-case hexadecimal. */
  readonly sha256: string;
}

/**
 * The tokens that workers answer to, made of the installation's one key: every manager can make the token of every
 * replica, and one replica's token tells nothing of another's.
 */
export class WorkerTokens {
  readonly #key: Buffer;

  /** @param key 32 random bytes, known to this installation's managers only */
  constructor(key: Buffer) {
    if (key.length !== 32) throw new Error("The key of workers' tokens must have 32 bytes.");
    this.#key = key;
  }

  /** @param credential unique among replicas that must not have one token */
  issue(credential = randomBytes(16).toString('hex')): CallToken {
    const token = this.make(credential);
    return { credential, token, sha256: createHash('sha256').update(token).digest('hex') };
  }

  /** Undefined for a replica without a credential: one of an image that has none, or of a former version. */
  tokenFor(credential: string | undefined): string | undefined {
    return credential === undefined ? undefined : this.make(credential);
  }

  /** Opens the archive of one layer, for the workers that need it. */
  forLayer(digest: string): string {
    return this.hmac(`layer ${digest}`);
  }

  private make(credential: string): string {
    return this.hmac(`worker ${credential}`);
  }

  private hmac(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('base64url');
  }
}

/** The header of a request to a worker; nothing where there is no token. */
export function tokenHeader(token: string | undefined): Record<string, string> {
  return token === undefined ? {} : { [TOKEN_HEADER]: token };
}
