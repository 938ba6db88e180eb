import type { ContainerInfo, NetworkInspectInfo } from 'dockerode';
import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { DockerConfig } from '#libs/config/config.js';
import type { DockerEngine, NetworkPlace } from './docker-engine.js';
import { EngineRefusal } from './engine-fault.js';
import { ImageAwaited, networkFault, NetworkUnusable, WorkerNetwork } from './worker-network.js';

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

const CONFIG: DockerConfig = {
  image: 'worker',
  registry: undefined,
  network: 'workers',
  internal: false,
  reach: 'auto',
  firewall: { mode: 'off', allow: [] },
  seccomp: 'own',
  runtime: '',
};

const LOCAL = { ...NETWORK, IPAM: { Driver: 'default', Config: [{ Subnet: '127.0.0.0/8', Gateway: '127.0.0.1' }] } };

describe('the way to workers that run', () => {
  const UNFIT = { ...LOCAL, Options: {} };
  const engineOf = (...networks: (NetworkInspectInfo | Error)[]): DockerEngine => {
    const engine: Pick<DockerEngine, 'networks' | 'isLocal'> = {
      isLocal: true,
      networks: () => {
        const next = networks.length > 1 ? networks.shift() : networks[0];
        return next instanceof Error ? Promise.reject(next) : Promise.resolve(next === undefined ? [] : [next]);
      },
    };
    return engine as DockerEngine;
  };
  const networkOf = (engine: DockerEngine) => new WorkerNetwork(engine, CONFIG, pino({ level: 'silent' }));

  it('stays when the network is found to be unfit later', async () => {
    const network = networkOf(engineOf(LOCAL, new NetworkUnusable('gone')));
    await expect(network.ready()).resolves.toBe('address');
    network.forget();
    await expect(network.ready()).rejects.toThrow(NetworkUnusable);
    expect(network.reach).toBe('address');
  });

  it('is found on a network that was unfit from the start', async () => {
    const network = networkOf(engineOf(UNFIT));
    await expect(network.ready()).rejects.toThrow(NetworkUnusable);
    expect(network.reach).toBe('address');
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
    const network = new WorkerNetwork(engine as DockerEngine, CONFIG, pino({ level: 'silent' }));
    await network.freePlaces(AbortSignal.timeout(1_000));
    expect(freed).toEqual(['id/is-gone']);
  });
});

describe('rules that are required and that somebody else sets', () => {
  const REQUIRED = { ...CONFIG, firewall: { mode: 'required', allow: [] } } as const;
  /** Its checks end with these statuses, the last one again and again. */
  const engineOf = (...outcomes: (number | Error)[]): DockerEngine => {
    const engine: Pick<DockerEngine, 'networks' | 'isLocal' | 'list' | 'runToEnd'> = {
      isLocal: true,
      networks: () => Promise.resolve([LOCAL]),
      list: () => Promise.resolve([]),
      runToEnd: () => {
        const next = (outcomes.length > 1 ? outcomes.shift() : outcomes[0]) ?? 0;
        return typeof next === 'number' ? Promise.resolve(next) : Promise.reject(next);
      },
    };
    return engine as DockerEngine;
  };
  const networks: WorkerNetwork[] = [];
  const networkOf = (engine: DockerEngine) => {
    const network = new WorkerNetwork(engine, REQUIRED, pino({ level: 'silent' }));
    networks.push(network);
    return network;
  };
  afterEach(() => {
    for (const network of networks.splice(0)) network.close();
  });

  it('are missed when they are taken away later', async () => {
    const network = networkOf(engineOf(0, 1));
    await expect(network.ready()).resolves.toBe('address');
    network.recheck();
    await vi.waitFor(() => expect(network.ready()).rejects.toThrow(/required: workers reach this machine/));
    expect(network.reach).toBe('address');
  });

  it('are looked for every few minutes', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'Date'] });
    try {
      const network = networkOf(engineOf(0, 1));
      await expect(network.ready()).resolves.toBe('address');
      vi.advanceTimersByTime(6 * 60_000);
      await vi.waitFor(() => expect(network.ready()).rejects.toThrow(/required: workers reach this machine/));
    } finally {
      vi.useRealTimers();
    }
  });

  it('are looked for once the image is there', async () => {
    const network = networkOf(engineOf(new EngineRefusal(404, 'No such image: worker'), 0));
    await expect(network.ready()).rejects.toThrow(ImageAwaited);
    await expect(network.ready()).resolves.toBe('address');
  });
});
