import type { ContainerInfo, NetworkInspectInfo } from 'dockerode';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { DockerEngine, NetworkPlace } from './docker-engine.js';
import { networkFault, WorkerNetwork } from './worker-network.js';

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

describe('places in the network', () => {
  it('are freed when neither their container nor one of its name is there any more', async () => {
    const freed: string[] = [];
    const engine: Pick<DockerEngine, 'networks' | 'placesIn' | 'list' | 'freePlace'> = {
      networks: () => Promise.resolve([NETWORK]),
      placesIn: () =>
        Promise.resolve([
          { container: 'a', name: 'runs' },
          { container: 'b', name: 'was-renamed' },
          { container: 'c', name: 'was-made-anew' },
          { container: 'd', name: 'is-gone' },
        ]),
      list: () =>
        Promise.resolve([
          { Id: 'a', Names: ['/runs'] },
          { Id: 'b', Names: ['/another'] },
          { Id: 'e', Names: ['/was-made-anew'] },
        ] as ContainerInfo[]),
      freePlace: (network: string, { name }: NetworkPlace) => {
        freed.push(`${network}/${name}`);
        return Promise.resolve();
      },
    };
    const config = {
      image: 'worker',
      registry: undefined,
      network: 'workers',
      internal: false,
      reach: 'auto' as const,
      firewall: { mode: 'off' as const, allow: [] },
      seccomp: 'own' as const,
    };
    const network = new WorkerNetwork(engine as DockerEngine, config, pino({ level: 'silent' }));
    await network.freePlaces(AbortSignal.timeout(1_000));
    expect(freed).toEqual(['id/is-gone']);
  });
});
