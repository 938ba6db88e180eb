import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const EVERY_MS = 5;
const ONE_TRY_MS = 1_000;

/** Asks until the answer is 200. */
export async function untilHealthy(target, { path = '/health', withinMs = 60_000 } = {}) {
  const until = performance.now() + withinMs;
  while (!(await isHealthy(target, path))) {
    if (performance.now() > until) throw new Error(`${target.origin}${path} never answered 200.`);
    await delay(EVERY_MS);
  }
}

export function isHealthy({ origin, socketPath }, path = '/health') {
  return new Promise((resolve) => {
    const asked = request(`${origin}${path}`, { socketPath, agent: false, timeout: ONE_TRY_MS }, (answer) => {
      answer.resume().on('end', () => resolve(answer.statusCode === 200));
      answer.on('error', () => resolve(false));
    });
    asked.on('timeout', () => asked.destroy(new Error('late')));
    asked.on('error', () => resolve(false));
    asked.end();
  });
}
