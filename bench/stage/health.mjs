import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const EVERY_MS = 5;
const UP_WITHIN_MS = 60_000;
const ONE_TRY_MS = 1_000;

/** Asks until the answer is 200. */
export function untilHealthy(target, { path = '/health', withinMs = UP_WITHIN_MS } = {}) {
  return untilTrue(() => isHealthy(target, path), `${target.origin}${path} never answered 200.`, withinMs);
}

/** Asks until it is up and waits for a function. */
export function untilGeneric(target) {
  return untilTrue(() => isGeneric(target), `${target.origin} never waited for a function.`, UP_WITHIN_MS);
}

async function untilTrue(look, complaint, withinMs) {
  const until = performance.now() + withinMs;
  while (!(await look())) {
    if (performance.now() > until) throw new Error(complaint);
    await delay(EVERY_MS);
  }
}

export async function isHealthy(target, path = '/health') {
  return (await ask(target, path)).status === 200;
}

/** A worker that is up and waits for its function. */
export async function isGeneric(target) {
  const { status, text } = await ask(target, '/health');
  return status === 503 && text.includes('"generic"');
}

function ask({ origin, socketPath }, path) {
  return new Promise((resolve) => {
    const asked = request(`${origin}${path}`, { socketPath, agent: false, timeout: ONE_TRY_MS }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('end', () => resolve({ status: answer.statusCode, text: Buffer.concat(chunks).toString() }));
      answer.on('error', () => resolve({}));
    });
    asked.on('timeout', () => asked.destroy(new Error('late')));
    asked.on('error', () => resolve({}));
    asked.end();
  });
}
