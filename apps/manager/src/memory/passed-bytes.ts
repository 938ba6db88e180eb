import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * A stream's pieces lie outside of the heap that V8 looks at: left to itself it collects them when tens of megabytes of
 * them are dead, which the processor's caches have long forgotten. To do so sooner costs a millisecond or two, and a large
 * stream takes two thirds of the time.
 */
const COLLECTED_BYTES = 16 * 1024 * 1024;

/** Made once it is needed: a second context of V8 may make calls dearer. */
let collect: ReturnType<typeof collector> | undefined;
let passed = 0;

/** Told of each piece of a stream that the manager hands on. */
export function notePassed(bytes: number): void {
  passed += bytes;
  if (passed < COLLECTED_BYTES) return;
  passed = 0;
  collect ??= collector();
  collect({ type: 'minor' });
}

function collector(): (options: { readonly type: 'minor' }) => void {
  const { gc } = globalThis;
  if (gc !== undefined) {
    return (options) => {
      gc(options);
    };
  }
  setFlagsFromString('--expose-gc');
  const found = runInNewContext('globalThis.gc') as ReturnType<typeof collector> | undefined;
  setFlagsFromString('--no-expose-gc');
  // Where the flag can't be set any more, all goes on as V8 has it.
  return found ?? (() => undefined);
}
