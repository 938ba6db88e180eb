import { docker } from '../docker/support/docker-tests.js';
import type { TestEngine } from './engine.js';

/** An address of this machine that builds on this engine can reach. */
export async function hostForWorkers({ name }: TestEngine): Promise<string> {
  if (name !== 'docker') return '127.0.0.1';
  const { IPAM } = (await docker.getNetwork('bridge').inspect()) as {
    IPAM: { Config: { Gateway?: string; Subnet: string }[] };
  };
  const [{ Gateway, Subnet } = { Subnet: '' }] = IPAM.Config;
  // An engine that has been started anew may not tell it: it is the first address then.
  return Gateway ?? Subnet.replace(/\.0\/\d+$/, '.1');
}
