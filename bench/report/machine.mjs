import { execFile } from 'node:child_process';
import { cpus, loadavg, release, totalmem, type } from 'node:os';
import { promisify } from 'node:util';

const GIB = 1024 ** 3;

/** What the figures depend on; nothing that tells whose machine it is. */
export async function describeMachine({ engine, python, root }) {
  const [pythonVersion, revision, changed] = await Promise.all([
    output(python, ['-V']),
    output('git', ['rev-parse', '--short', 'HEAD'], root),
    output('git', ['status', '--porcelain', '--', 'apps', 'libs'], root),
  ]);
  return {
    cpus: cpus().length,
    cpuModel: cpus()[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round((totalmem() / GIB) * 10) / 10,
    kernel: `${type()} ${release()}`,
    node: process.versions.node,
    python: pythonVersion?.replace(/^Python /, '') ?? 'unknown',
    engine: await engine.describe(),
    revision: revision === undefined ? 'unknown' : `${revision}${changed === '' ? '' : ' with changes'}`,
  };
}

/** A figure taken on a busy machine says so. */
export function describeLoad() {
  return loadavg().map((value) => Math.round(value * 100) / 100);
}

async function output(program, args, cwd) {
  try {
    return (await promisify(execFile)(program, args, { cwd })).stdout.trim();
  } catch {
    return undefined;
  }
}
