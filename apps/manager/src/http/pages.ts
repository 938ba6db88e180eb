import { AppError } from '#libs/errors/app-error.js';
import { applyDecorators } from '@nestjs/common';
import type { ApiQueryOptions } from '@nestjs/swagger';
import { QueryParameter } from './query.js';

export const MOST_PER_PAGE = 1_000;

export class InvalidPage extends AppError {
  readonly code = 'invalid_page';
  readonly kind = 'invalid';
  constructor(parameter: string, message: string) {
    super(message, { extras: { parameter } });
  }
}

/** How a list is asked for in pages. `byDefault`: how many come without a limit; unset: all. */
export function InPages({
  most = MOST_PER_PAGE,
  byDefault,
  after,
}: {
  readonly most?: number;
  readonly byDefault?: number;
  readonly after: { readonly maxLength: number; readonly pattern?: string };
}): MethodDecorator {
  const all = byDefault === undefined ? '; without it, all' : '';
  const limit: ApiQueryOptions & { readonly name: string } = {
    name: 'limit',
    required: false,
    description: `At most so many of them${all}.`,
    schema: { type: 'integer', minimum: 1, maximum: most, ...(byDefault !== undefined && { default: byDefault }) },
  };
  // Applied in this order, each before those that are there: the reverse of what is shown.
  return applyDecorators(
    QueryParameter({
      name: 'after',
      required: false,
      description: 'Where the page begins: taken from the Link header of the page before.',
      schema: { type: 'string', ...after },
    }),
    QueryParameter(limit),
  );
}

/** The header that leads to the next page. `what`: what the list is of, where it comes in pages only with a limit. */
export function linkHeader(example: string, what?: string) {
  const where = what === undefined ? 'Where more follow' : `With a limit, where more ${what} follow`;
  return {
    Link: { description: `${where}: the next page (RFC 8288).`, schema: { type: 'string' as const, example } },
  };
}

/** How many a page may hold; undefined: all. Throws {@link InvalidPage}. */
export function limitOf(limit: unknown, most = MOST_PER_PAGE): number | undefined {
  if (limit !== undefined && !(isDigits(limit) && Number(limit) >= 1 && Number(limit) <= most)) {
    throw new InvalidPage('limit', `limit must be a whole number from 1 to ${most}.`);
  }
  return limit === undefined ? undefined : Number(limit);
}

/** Where a page begins. `isOne`: whether it is what links to pages say. Throws {@link InvalidPage}. */
export function afterOf(after: unknown, isOne: (after: unknown) => boolean): string | undefined {
  if (after === undefined || isOne(after)) return after as string | undefined;
  throw new InvalidPage('after', 'after must be taken from the Link header of the page before.');
}

/** `Link` header (RFC 8288) to the page of the same list that begins after this one. `query`: what else it asks for. */
export function linkToNext(path: string, limit: number, after: string, query = new URLSearchParams()): string {
  query.append('limit', String(limit));
  query.append('after', after);
  return `<${path}?${query.toString()}>; rel="next"`;
}

export function isDigits(value: unknown): value is string {
  return typeof value === 'string' && /^\d+$/.test(value);
}
