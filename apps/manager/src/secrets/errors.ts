import { AppError } from '#libs/errors/app-error.js';

/** `field` is the member at fault, `name` for the path's, `body` for all of it. */
export class InvalidSecret extends AppError {
  readonly code = 'invalid_secret';
  readonly kind = 'invalid';
  constructor(field: string, message: string) {
    super(message, { extras: { field } });
  }
}

export class SecretNotFound extends AppError {
  readonly code = 'secret_not_found';
  readonly kind = 'not_found';
  constructor(name: string) {
    super(`There is no secret ${JSON.stringify(name.slice(0, 64))}.`);
  }
}

const MOST_SHOWN = 20;

export class SecretInUse extends AppError {
  readonly code = 'secret_in_use';
  readonly kind = 'conflict';
  /** @param users each as people write it, with its revisions */
  constructor(name: string, users: readonly string[]) {
    const shown = users.slice(0, MOST_SHOWN);
    const others = users.length > shown.length ? ` and ${users.length - shown.length} more` : '';
    super(
      `The secret ${name} is used by ${shown.join(', ')}${others}. Remove it from their settings and these revisions first.`,
      { extras: { functions: shown } },
    );
  }
}

export class TooManySecrets extends AppError {
  readonly code = 'too_many_secrets';
  readonly kind = 'conflict';
  constructor(most: number) {
    super(`There are ${most} secrets, which is as many as there may be. Remove one that no function uses.`);
  }
}

export class SecretsNotConfigured extends AppError {
  readonly code = 'secrets_not_configured';
  readonly kind = 'conflict';
  constructor() {
    super(
      'This manager has no key to encrypt secrets with: set SECRETS_KEYS to an id and 32 random bytes in base64, as in "k1:$(openssl rand -base64 32)", the same for all managers.',
    );
  }
}

/** A secret that a function needs is gone, or no key that this manager has opens it. */
export class SecretUnreadable extends AppError {
  readonly code = 'secret_unreadable';
  readonly kind = 'conflict';
  constructor(name: string, why: string) {
    super(`The secret ${name} can't be read: ${why}.`);
  }
}
