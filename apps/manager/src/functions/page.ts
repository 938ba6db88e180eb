import { AppError } from '#libs/errors/app-error.js';

/** Part of the list of functions; without a limit, all of it. */
export interface Page {
  readonly limit?: number | undefined;
  /** The position of the last function of the page before. */
  readonly after?: string | undefined;
}

export const MOST_PER_PAGE = 1_000;

export class InvalidPage extends AppError {
  readonly code = 'invalid_page';
  readonly kind = 'invalid';
  constructor(parameter: string, message: string) {
    super(message, { extras: { parameter } });
  }
}

export function pageOf({ limit, after }: { limit?: unknown; after?: unknown }): Page {
  if (limit !== undefined && !(isDigits(limit) && Number(limit) >= 1 && Number(limit) <= MOST_PER_PAGE)) {
    throw new InvalidPage('limit', `limit must be a whole number from 1 to ${MOST_PER_PAGE}.`);
  }
  // More digits than the database's own numbers have.
  if (after !== undefined && !(isDigits(after) && after.length <= 18)) {
    throw new InvalidPage('after', 'after must be taken from the Link header of the page before.');
  }
  return { limit: limit === undefined ? undefined : Number(limit), after };
}

/** `Link` header (RFC 8288) to the page that begins after this position. */
export function linkToNext(limit: number, after: string): string {
  return `</functions?limit=${limit}&after=${after}>; rel="next"`;
}

function isDigits(value: unknown): value is string {
  return typeof value === 'string' && /^\d+$/.test(value);
}
