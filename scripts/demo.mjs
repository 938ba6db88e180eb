// Starts the manager on what this machine has, shows a first function from upload to answer, and keeps serving:
//   npm run demo              until Ctrl-C
//   npm run demo -- --once    leaves after the calls, with the function removed (or DEMO_ONCE=1)
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DemoCalls } from './demo/calls.mjs';
import { prepareEngine } from './setup/engine.mjs';
import { chooseAddress, ManagerProcess } from './demo/manager-process.mjs';
import { say, step } from './setup/progress.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const once = process.argv.includes('--once') || process.env.DEMO_ONCE === '1';

let manager;
let leaving = false;
// The manager gets Ctrl-C from the terminal itself; other requests to end must be passed on.
process.on('SIGINT', () => (leaving = true));
for (const signal of ['SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    leaving = true;
    if (manager === undefined) process.exit(143);
    manager.signal('SIGTERM');
  });
}

try {
  const engine = await prepareEngine(root);
  const { listen, url } = await chooseAddress();
  if (leaving) process.exit(130);
  manager = new ManagerProcess(root, {
    LISTEN_ADDR: listen,
    LOG_FORMAT: process.env.LOG_FORMAT || 'pretty',
    ...(engine === undefined ? {} : { DEPLOYMENT_ENV: engine }),
  });
  await step('starting the manager', () => manager.untilReady(url));
  const calls = new DemoCalls(root, url);
  await show(calls);
  if (once) {
    const clean = await manager.stop();
    say(
      clean
        ? '\n✓ The demo ran, its function is removed, everything has stopped.'
        : '\n✗ The manager did not stop cleanly.',
    );
    process.exit(clean ? 0 : 1);
  }
  if (calls.keyFile !== undefined) say(`\n• The key to show is in ${calls.keyFile}.`);
  say(`\n✓ Serving on ${url}: Swagger UI on ${url}/docs. Ctrl-C stops the manager; functions stay for the next start.`);
  const how = await manager.ended;
  process.exit(leaving || how === 'exit code 0' ? 0 : 1);
} catch (error) {
  if (leaving) {
    await manager?.stop();
    process.exit(130);
  }
  console.error(`\n✗ ${error.message}`);
  await manager?.stop();
  process.exit(1);
}

async function show(calls) {
  const id = await calls.ensureFunction(await calls.list());
  await calls.execute(id, '{"name": "Ada", "likes": "engines"}');
  await calls.execute(id, 'the more you look the more you see');
  await calls.list();
  if (once) await calls.remove(id);
}
