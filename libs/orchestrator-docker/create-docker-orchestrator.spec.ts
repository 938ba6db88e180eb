import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { connectDocker } from './create-docker-orchestrator.js';

it.each(['http', 'https'] as const)('writes nothing out of its connections by %s with each request', (protocol) => {
  const { agent } = connectDocker({ protocol, host: '127.0.0.1', port: 1 }).modem as { agent?: unknown };
  expect(agent).toMatchObject({ options: { keepAlive: true } });
  expect(inspect({ agent }, { showHidden: true, depth: null })).toBe('{ agent: Agent }');
});
