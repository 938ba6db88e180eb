import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { QueryRunnerAlreadyReleasedError, QueryRunnerProviderAlreadyReleasedError } from 'typeorm';

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
]);

/** Operator intervention (cancelled statements too), locks not got in time, deadlocks, out of resources. */
const PASSING = /^(57...|55P03|40...|53...)$/;

/** Messages of faults for which node-postgres sets no code. */
const CONNECTION_MESSAGES =
  /connection terminated|timeout exceeded when trying to connect|client has encountered a connection error|not queryable|query read timeout|connection timeout|after calling end on the pool/i;

/**
 * Whether the server couldn't be reached or gave the session up, rather than refusing a statement. SQLSTATE classes 08
 * (connection), 57P (operator intervention), 53 (out of resources), 25006 (a standby after fail-over) and 25P03 (idle
 * for too long in a transaction): PostgreSQL manual, appendix A.
 */
export function isConnectionFault(error: unknown): boolean {
  // TypeORM takes a transaction's session away when its connection ends between two statements.
  if (error instanceof QueryRunnerAlreadyReleasedError) return true;
  if (error instanceof QueryRunnerProviderAlreadyReleasedError) return true;
  if (error instanceof AggregateError) return error.errors.some(isConnectionFault);
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: unknown }).code;
  if (typeof code === 'string') {
    if (NETWORK_CODES.has(code)) return true;
    if (/^(08...|57P..|53...|25006|25P03)$/.test(code)) return true;
  }
  const driver = (error as { driverError?: unknown }).driverError;
  if (driver !== undefined && driver !== error && isConnectionFault(driver)) return true;
  return CONNECTION_MESSAGES.test(error.message);
}

/**
 * Whether the database is away or too slow, or what was asked of it met something else at that moment: the same may be
 * taken another time.
 */
export function isPassing(error: unknown): boolean {
  if (error instanceof DatabaseUnavailable) return true;
  const code = (error as { readonly code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' && PASSING.test(code);
}
