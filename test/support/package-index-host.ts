import { docker } from '../docker/support/docker-tests.js';
import type { TestEngine } from './engine.js';

/** An address of this machine that builds on this engine can reach. */
export async function hostForWorkers({ name }: TestEngine): Promise<string> {
  if (name !== 'docker') return '127.0.0.1';
  const { IPAM } = (await docker.getNetwork('bridge').inspect()) as { IPAM?: { Config?: { Gateway?: string }[] } };
  return IPAM?.Config?.[0]?.Gateway ?? '127.0.0.1';
}
