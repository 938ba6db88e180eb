import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SCRIPT = fileURLToPath(new URL('call.lua', import.meta.url));
const ANSWER_S = 30;
const run = promisify(execFile);

/** Calls by wrk, which needs less of a processor for one than any program that they are sent to. */
export class Wrk {
  /** Undefined where it isn't installed. */
  static async find() {
    const installed = await run('wrk', ['--version']).catch((error) => error);
    return installed.code === 'ENOENT' ? undefined : new Wrk();
  }

  /** Whole seconds only. It doesn't read answers: that they are right is for another load to see. */
  async round({ target, connections, seconds, body }) {
    const { stdout } = await run(
      'wrk',
      [
        ...['--threads', '1', '--connections', String(connections), '--duration', `${seconds}s`],
        ...['--timeout', `${ANSWER_S}s`, '--script', SCRIPT, `${target.origin}${target.path}`],
        ...['--', body, ...(target.headers ?? [])],
      ],
      { timeout: (seconds + 2 * ANSWER_S) * 1000 },
    );
    const { failures, ...result } = JSON.parse(stdout.trimEnd().split('\n').at(-1));
    if (failures > 0) throw new Error(`${failures} of ${result.calls} calls failed.`);
    return { ...result, perSecond: Math.round((result.calls / result.elapsedMs) * 1000) };
  }
}
