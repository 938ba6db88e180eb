import { readFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WORKER_CONNECTIONS } from '#libs/orchestrator-docker/firewall-rules.js';
import { docker } from '../docker/support/docker-tests.js';
import { describeOnDocker } from '../support/engines.js';
import { Stage } from '../support/stage.js';
import { CONNECTOR } from './support/connect-handler.js';
import { Lan } from './support/lan.js';

/** The burst that a worker may open, and what its rate adds while the test runs. */
const MOST_TRACKED = 2 * WORKER_CONNECTIONS;
const [OPENED, CLOSED] = [7_001, 7_002];
const reason = process.env['REQUIRE_DOCKER'] === '1' ? undefined : Lan.whyNot();

describe.skipIf(reason !== undefined)(`from inside a function${reason === undefined ? '' : ` (${reason})`}`, () => {
  describeOnDocker('on Docker', (engine) => {
    const env: Record<string, string> = { LISTEN_ADDR: '0.0.0.0:0', AUTH_DISABLED: 'true' };
    let lan: Lan;
    let server: Server;
    let hostPort: number;
    let openedPort: number;
    let opened: Server;

    beforeAll(async () => {
      lan = await Lan.open(OPENED, CLOSED, 80);
      [server, hostPort] = await listener();
      [opened, openedPort] = await listener();
      env['WORKER_EGRESS_ALLOW'] = `${lan.privateAddress}:${OPENED},${lan.own}:${openedPort}`;
    });
    const stage = Stage.on(engine, env);
    afterAll(async () => {
      server.close();
      opened.close();
      await lan.close();
    });

    let id: string;
    let address: string;
    let gateway: string;
    beforeAll(async () => {
      const added = await stage.manager.add(CONNECTOR, { timeoutMs: 20_000 });
      id = added.id;
      [address, gateway] = await placeOf(added.container_id, stage.room.env['DOCKER_NETWORK']!);
    });

    const ask = async (...payload: unknown[]) => {
      const answer = await stage.manager.call(id, JSON.stringify(payload));
      return (answer.json() as { result: unknown }).result;
    };

    it('nothing of the host answers, whatever address of its own is tried, the manager included', async () => {
      const own = Object.values(networkInterfaces()).flatMap((list) =>
        (list ?? []).flatMap(({ address: one, family, internal }) => (family === 'IPv4' && !internal ? [one] : [])),
      );
      expect(own).toContain(gateway);
      const ports = [hostPort, stage.manager.port];
      const tried = own.flatMap((host) => ports.map(async (port) => [host, port, await ask('attempt', host, port)]));
      for (const seen of await Promise.all(tried)) expect(seen).not.toContain('open');
    });

    it('the manager still reaches the function, which serves', async () => {
      expect(await ask('echo', 'hello')).toBe('hello');
    });

    it('neither a cloud’s metadata nor a private address answers', async () => {
      const tried: [string, number][] = [
        [Lan.metadata, 80],
        [lan.privateAddress, CLOSED],
      ];
      for (const [host, port] of tried) {
        expect(await canConnect(host, port), 'this machine itself reaches it').toBe(true);
        expect(await ask('attempt', host, port)).not.toBe('open');
      }
    });

    it('the internet answers, and what was opened: a port of a private address, a port of this machine', async () => {
      expect(await ask('attempt', lan.publicAddress, CLOSED)).toBe('open');
      expect(await ask('attempt', lan.privateAddress, OPENED)).toBe('open');
      expect(await ask('attempt', lan.own, openedPort)).toBe('open');
    });

    it('a neighbour on the network, for whom this machine routes, can’t call the function', async () => {
      expect(await lan.connect(lan.own, hostPort), 'it reaches this machine').toBe('open');
      expect(await canConnect(address, 8_000)).toBe(true);
      expect(await lan.connect(address, 8_000)).not.toBe('open');
    });

    it('datagrams to what is denied leave no trace in the machine’s table of connections', async () => {
      const [denied, allowed] = [lan.privateAddress, lan.publicAddress];
      expect(await ask('spray', denied, 10_000, 2_000)).toBe('sent');
      expect(await ask('spray', gateway, 10_000, 2_000)).toBe('sent');
      expect(tracked('udp', address, denied) + tracked('udp', address, gateway)).toBe(0);
      expect(await ask('spray', allowed, 10_000, 2_000)).toBe('sent');
      expect(tracked('udp', address, allowed)).toBeGreaterThan(0);
      expect(tracked('udp', address, allowed)).toBeLessThanOrEqual(MOST_TRACKED);
    });

    it('connections beyond a bound don’t come about, and calls are answered meanwhile', async () => {
      const held = await ask('hold', lan.publicAddress, CLOSED, 2 * WORKER_CONNECTIONS);
      expect(held).toBeGreaterThan(0);
      // A kernel that is behind forgets to count some that it has not yet noted.
      expect(held).toBeLessThanOrEqual(1.25 * WORKER_CONNECTIONS);
      expect(tracked('tcp', address, lan.publicAddress)).toBeLessThanOrEqual(MOST_TRACKED);
      expect(await ask('echo', 'hello')).toBe('hello');
    });
  });

  describeOnDocker('of a network without a way out on Docker', (engine) => {
    let server: Server;
    let hostPort: number;
    beforeAll(async () => {
      [server, hostPort] = await listener();
    });
    const stage = Stage.on(engine, { WORKER_NETWORK_INTERNAL: 'true' });
    afterAll(() => server.close());

    it('nothing of the host answers', async () => {
      const { id, container_id: container } = await stage.manager.add(CONNECTOR, { timeoutMs: 20_000 });
      const [, gateway] = await placeOf(container, stage.room.env['DOCKER_NETWORK']!);
      expect(await canConnect(gateway, hostPort)).toBe(true);
      const answer = await stage.manager.call(id, JSON.stringify(['attempt', gateway, hostPort]));
      expect(answer.json()).not.toEqual({ result: 'open' });
    });
  });
});

/** Entries of the kernel's table for what one address began towards another. */
function tracked(protocol: 'tcp' | 'udp', from: string, to: string): number {
  const lines = readFileSync('/proc/net/nf_conntrack', 'utf8').split('\n');
  const begun = new RegExp(` ${protocol} [^=]*src=${from} dst=${to} `);
  return lines.filter((line) => begun.test(line)).length;
}

function canConnect(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port, timeout: 2_000 });
  return new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('timeout', () => resolve(false));
    socket.once('error', () => resolve(false));
  }).finally(() => socket.destroy());
}

async function listener(): Promise<[Server, number]> {
  const server = createServer((socket) => socket.end());
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('There is no port.');
  return [server, address.port];
}

async function placeOf(container: string, network: string): Promise<[string, string]> {
  const { NetworkSettings: settings } = await docker.getContainer(container).inspect();
  const place = settings.Networks[network];
  return [place?.IPAddress ?? '', place?.Gateway ?? ''];
}
