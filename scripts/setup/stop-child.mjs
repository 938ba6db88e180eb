import { once } from 'node:events';

/** Tells a child to leave, ends it when it hasn't left after so long, and waits until it has. */
export async function stopChild(child, ms) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), ms);
  await ended;
  clearTimeout(late);
}
