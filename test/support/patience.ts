import { vi } from 'vitest';

/** Of what is waited for and says no time of its own: a second is too short for a machine that is busy. */
const PATIENCE_MS = 15_000;

const { waitFor } = vi;
vi.waitFor = (callback, options = {}) =>
  waitFor(callback, typeof options === 'number' ? options : { timeout: PATIENCE_MS, ...options });
