// Serves on what this machine has; on Docker with the worker's image built first where it is absent.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepareEngine } from './setup/engine.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
try {
  const engine = await prepareEngine(root);
  if (engine !== undefined) process.env.DEPLOYMENT_ENV = engine;
} catch (error) {
  console.error(`✗ ${error.message}`);
  process.exit(1);
}
await import('../dist/apps/manager/src/main.js');
