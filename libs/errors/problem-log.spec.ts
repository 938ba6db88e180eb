import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { DatabaseUnavailable, InternalError, Unauthorized } from './errors.js';
import { ProblemLog } from './problem-log.js';

describe('ProblemLog', () => {
  const start = () => {
    const logged: [string, object][] = [];
    const problems = new ProblemLog({
      error: (_, message) => logged.push([message, {}]),
      warn: (fields, message) => logged.push([message, fields]),
    });
    const request = { headers: {}, socket: { remoteAddress: '192.0.2.1' } } as IncomingMessage;
    return { problems, request, logged, messages: () => logged.map(([message]) => message) };
  };

  it('logs faults of ours as errors, an absent dependency as a warning, a caller’s mistake not at all', () => {
    const { problems, request, messages } = start();
    for (const error of [new InternalError('x'), new DatabaseUnavailable('x'), new Unauthorized()]) {
      problems.note(error, request);
    }
    expect(messages()).toEqual(['request failed unexpectedly', 'request refused']);
  });

  it('writes a few lines a minute of what one client is refused, and sums up the others', () => {
    const { problems, request, logged, messages } = start();
    for (let call = 0; call < 1_000; call += 1) problems.note(new DatabaseUnavailable('x'), request);
    expect(messages()).toEqual(Array.from({ length: 30 }, () => 'request refused'));
    problems.onApplicationShutdown();
    const leftOut = { lines: 970, clients: [{ client: '192.0.2.1', lines: 970 }] };
    expect(logged.at(-1)).toEqual(['further refused requests were left out', leftOut]);
  });
});
