// With `node --import`: the manager's own program, with an engine in memory in the place of the one for processes.
import { registerHooks } from 'node:module';

const REPLACED = '#libs/orchestrator-process/process.orchestrator.js';

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === REPLACED
      ? { url: new URL('memory-orchestrator.mjs', import.meta.url).href, shortCircuit: true }
      : next(specifier, context),
});
