import { inject, vi } from 'vitest';

declare module 'vitest' {
  interface ProvidedContext {
    patienceMs: number;
  }
}

/** Of what is waited for and says no time of its own: a second is too short for a machine that is busy. */
const timeout = inject('patienceMs');

const { waitFor } = vi;
vi.waitFor = (callback, options = {}) =>
  waitFor(callback, typeof options === 'number' ? options : { timeout, ...options });
