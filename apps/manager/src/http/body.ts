import type { AppError } from '#libs/errors/app-error.js';
import { UnsupportedEncoding } from '#libs/errors/errors.js';
import type { IncomingMessage } from 'node:http';
import { Chunks } from '../memory/chunks.js';
import type { MemoryReservation } from '../memory/memory-budget.js';

export interface BodyErrors {
  readonly tooLarge: () => AppError;
  /** The client left before all of the body had arrived. */
  readonly cutOff: () => AppError;
}

/**
 * Reads a body whole, at most `limit` bytes of it. Throws one of `errors`, {@link UnsupportedEncoding} unless it is
 * nobody's here to understand, or what `reservation` throws when it has no room.
 */
export function readBounded(
  request: IncomingMessage,
  limit: number,
  reservation: Pick<MemoryReservation, 'add'>,
  errors: BodyErrors,
  encoding: 'none' | 'any' = 'none',
): Promise<Buffer> {
  const { headers } = request;
  const { 'content-encoding': coding = 'identity' } = headers;
  if (encoding === 'none' && coding !== 'identity') return Promise.reject(new UnsupportedEncoding(coding));
  if (Number(headers['content-length'] ?? 0) > limit) return Promise.reject(errors.tooLarge());
  // Nothing more is heard of one that closed before.
  if (request.destroyed) return Promise.reject(errors.cutOff());
  return new Promise((resolve, reject) => {
    const chunks = new Chunks();
    let size = 0;
    let isRefused = false;
    request.on('data', (chunk: Buffer) => {
      // The rest of what was refused is read and forgotten.
      if (isRefused) return;
      size += chunk.length;
      try {
        if (size > limit) throw errors.tooLarge();
        reservation.add(chunk.length);
        chunks.add(chunk);
      } catch (error) {
        isRefused = true;
        chunks.clear();
        reject(error);
      }
    });
    let whole = false;
    request.on('end', () => {
      whole = true;
      resolve(chunks.take());
    });
    // Every request closes in the end: an error with its stack for each costs more than reading the body does. One that
    // is cut short has no error of its own, as nobody listens for it.
    request.on('close', () => {
      if (!whole) reject(errors.cutOff());
    });
  });
}
