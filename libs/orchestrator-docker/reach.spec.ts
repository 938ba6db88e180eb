import { describe, expect, it } from 'vitest';
import { chooseReach, type ReachFacts } from './reach.js';

const FACTS: ReachFacts = { configured: 'auto', internal: false, engineIsLocal: true, ownGateway: '172.18.0.1' };

describe('chooseReach', () => {
  it.each<[string, Partial<ReachFacts>, string]>([
    ['by address where the network’s gateway is this machine', {}, 'address'],
    ['by port where it is not', { ownGateway: undefined }, 'published'],
    ['by port on a remote engine, whose gateway may look like ours', { engineIsLocal: false }, 'published'],
    ['as configured', { configured: 'published' }, 'published'],
    [
      'by address on an internal network, whatever is configured',
      { internal: true, configured: 'published' },
      'address',
    ],
  ])('reaches workers %s', (_, facts, reach) => {
    const choice = chooseReach({ ...FACTS, ...facts });
    expect(choice.reach).toBe(reach);
    expect(choice.why).not.toBe('');
  });
});
