import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Child } from '../stage/child.mjs';

const GO_PROXY = fileURLToPath(new URL('go-proxy', import.meta.url));
const BUILD_MS = 300_000;

/** Says `{port}` once it listens. `connections`: how many calls may be at the worker at once. */
export function startProxy({ origin, socketPath, headers = [] }, connections = 64) {
  return Child.module(new URL('proxy-process.mjs', import.meta.url), [
    origin,
    String(connections),
    JSON.stringify(headers),
    ...(socketPath === undefined ? [] : [socketPath]),
  ]);
}

/** The program of Go's reverse proxy, made in this folder; undefined where there is no Go. */
export async function buildGoProxy(folder) {
  const program = join(folder, 'go-proxy');
  try {
    await promisify(execFile)('go', ['build', '-o', program, '.'], { cwd: GO_PROXY, timeout: BUILD_MS });
    return program;
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The same as {@link startProxy}, on a port that is given. */
export function startGoProxy(program, port, { origin, socketPath, headers = [] }, connections = 64) {
  const args = [String(port), origin, String(connections), JSON.stringify(headers)];
  return Child.run(program, socketPath === undefined ? args : [...args, socketPath], { stdin: 'pipe' });
}
