import { Child } from '../stage/child.mjs';

/** Says `{port}` once it listens. `connections`: how many calls may be at the worker at once. */
export function startProxy({ origin, socketPath, headers = [] }, connections = 64) {
  return Child.module(new URL('proxy-process.mjs', import.meta.url), [
    origin,
    String(connections),
    JSON.stringify(headers),
    ...(socketPath === undefined ? [] : [socketPath]),
  ]);
}
