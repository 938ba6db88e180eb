import { Child } from '../stage/child.mjs';

/** Says `{port}` once it listens. */
export function startProxy(origin, socketPath) {
  return Child.module(new URL('proxy-process.mjs', import.meta.url), [
    origin,
    ...(socketPath === undefined ? [] : [socketPath]),
  ]);
}
