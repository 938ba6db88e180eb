import { describe, expect, it } from 'vitest';
import { chooseEngine } from './choose-engine.js';

describe('chooseEngine', () => {
  const answers = () => Promise.resolve(undefined);
  const silent = () => Promise.resolve('connect ENOENT /var/run/docker.sock');
  const unasked = () => Promise.reject(new Error('Docker was asked though nothing depends on it.'));

  it.each([
    ['the configured engine, wherever it runs', 'process', true, unasked, 'process', 'DEPLOYMENT_ENV'],
    ['Kubernetes inside a cluster', undefined, true, unasked, 'kubernetes', 'cluster'],
    ['Docker where it answers', undefined, false, answers, 'docker', 'answers'],
    ['processes otherwise, with why not Docker', undefined, false, silent, 'process', 'ENOENT'],
  ] as const)('takes %s', async (_, configured, insideKubernetes, dockerFault, engine, reason) => {
    const choice = await chooseEngine({ configured, insideKubernetes, dockerFault });
    expect(choice.engine).toBe(engine);
    expect(choice.reason).toContain(reason);
  });
});
