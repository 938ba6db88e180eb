import type { NetworkInspectInfo } from 'dockerode';
import { describe, expect, it } from 'vitest';
import { networkFault } from './worker-network.js';

const NETWORK: NetworkInspectInfo = {
  Name: 'workers',
  Id: 'id',
  Created: '2026-01-02T03:04:05Z',
  Scope: 'local',
  Driver: 'bridge',
  EnableIPv6: false,
  Internal: false,
  Attachable: false,
  Ingress: false,
  ConfigOnly: false,
  Options: { 'com.docker.network.bridge.enable_icc': 'false' },
};

describe('networkFault', () => {
  it('takes a bridge that keeps containers apart, whoever made it', () => {
    expect(networkFault(NETWORK, false)).toBeUndefined();
    expect(networkFault({ ...NETWORK, Internal: true }, true)).toBeUndefined();
  });

  it.each<[string, Partial<NetworkInspectInfo>, boolean, RegExp]>([
    ['lets containers reach each other', { Options: {} }, false, /reach each other/],
    ['is no bridge', { Driver: 'overlay' }, false, /"overlay"/],
    ['has a way out that is not wanted', {}, true, /has a route out/],
    ['has no way out where one is wanted', { Internal: true }, false, /no route out/],
  ])('says so when the network %s', (_, changes, internal, message) => {
    const fault = networkFault({ ...NETWORK, ...changes }, internal);
    expect(fault).toMatch(message);
    expect(fault).toContain('workers');
  });
});
