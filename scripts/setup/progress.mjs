import { spawn } from 'node:child_process';

const HEARTBEAT_MS = 10_000;
const KEPT_OUTPUT = 64 * 1024;

/** A fault that a person can mend; its message is all that is shown. */
export class SetupError extends Error {}

export function say(line) {
  process.stdout.write(`${line}\n`);
}

/** How a long step stands: beside what a script prints, which a pipe may take elsewhere. */
export function progress(line) {
  process.stderr.write(`${line}\n`);
}

/** Runs one long step under a title, with a line now and then so that nobody takes it for stuck. */
export async function step(title, work) {
  const began = Date.now();
  const elapsed = () => `${((Date.now() - began) / 1000).toFixed(1)} s`;
  progress(`→ ${title} …`);
  const heartbeat = setInterval(() => progress(`  … ${title}, ${elapsed()}`), HEARTBEAT_MS);
  try {
    const result = await work();
    progress(`✓ ${title} (${elapsed()})`);
    return result;
  } finally {
    clearInterval(heartbeat);
  }
}

/** Runs a program quietly; rejects with the end of its output. */
export async function run(program, args, options = {}) {
  const { ok, output } = await attempt(program, args, options);
  if (ok) return output;
  const tail = output.trimEnd().split('\n').slice(-25).join('\n');
  throw new SetupError(`${[program, ...args].join(' ')} failed:\n${tail}`);
}

/** Runs a program quietly and answers whether it succeeded, with what it wrote. */
export function attempt(program, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const keep = (chunk) => (output = (output + chunk).slice(-KEPT_OUTPUT));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (code) => resolve({ ok: code === 0, output }));
  });
}
