import { execFileSync } from 'node:child_process';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DockerConfig } from '#libs/config/config.js';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { DockerEngine } from '#libs/orchestrator-docker/docker-engine.js';
import { shellScript } from '#libs/orchestrator-docker/rule-scripts.js';
import { hostIsOpen } from '#libs/orchestrator-docker/host-check.js';
import { families } from '#libs/orchestrator-docker/packet-filter.js';
import { bridgeOf, policyOf } from '#libs/orchestrator-docker/worker-firewall.js';
import { NetworkUnusable, WorkerNetwork } from '#libs/orchestrator-docker/worker-network.js';
import { Lan } from '../hostile/support/lan.js';
import {
  docker,
  removeNetwork,
  removeStaleRules,
  testConfig,
  whyNoDocker,
  WORKER_IMAGE,
} from './support/docker-tests.js';

const reason = (await whyNoDocker(WORKER_IMAGE)) ?? (process.env['REQUIRE_DOCKER'] === '1' ? undefined : Lan.whyNot());
const signal = () => AbortSignal.timeout(40_000);

describe.skipIf(reason !== undefined)('the rules that keep workers from the machine', { timeout: 60_000 }, () => {
  let config: DockerConfig;
  let engine: DockerEngine;
  const lines: string[] = [];
  const open: WorkerNetwork[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });

  function networkOf(changes: Partial<DockerConfig> = {}, through = engine): WorkerNetwork {
    const network = new WorkerNetwork(through, { ...config, ...changes }, logger);
    open.push(network);
    return network;
  }

  /** An engine that seems to be elsewhere, so that its rules can't be set from here. */
  function foreign(): DockerEngine {
    return Object.defineProperty(new DockerEngine(connectDocker()), 'isLocal', { value: false });
  }

  async function place() {
    const inspected = await networkOf().inspect();
    const gateway = inspected.IPAM?.Config?.[0]?.['Gateway'] ?? '';
    const { image, network, internal, firewall } = config;
    return { bridge: bridgeOf(inspected), check: { image, network, gateway, internal, allow: firewall.allow } };
  }

  beforeEach(() => {
    config = testConfig();
    engine = new DockerEngine(connectDocker());
    lines.length = 0;
  });
  afterEach(async () => {
    for (const network of open.splice(0)) network.close();
    await removeNetwork(config.network);
  });

  it('are set once, however many managers there are, and set again when somebody takes them away', async () => {
    const { bridge } = await place();
    const [one, other] = [networkOf(), networkOf()];
    await Promise.all([one.ready(), other.ready()]);
    const whole = () => rules('iptables', bridge.network);
    const before = whole();
    expect(before.filter((rule) => / INPUT /.test(rule))).toHaveLength(1);
    const jump = before.find((rule) => / INPUT /.test(rule)) ?? '';
    execFileSync('iptables', ['-w', '5', ...jump.replace('-A', '-D').split(' ')]);
    execFileSync('iptables', ['-w', '5', '-F', `FAAS-${bridge.network.slice(0, 12)}-OUT`]);
    other.recheck();
    await vi.waitFor(() => expect(whole().toSorted()).toEqual(before.toSorted()), 40_000);
  });

  it('are looked after by a manager whose network gave way to one of the same name', async () => {
    const [one, other] = [networkOf(), networkOf()];
    await one.ready();
    await docker.getNetwork(config.network).remove();
    await other.ready();
    const { bridge } = await place();
    const before = rules('iptables', bridge.network);
    execFileSync('iptables', ['-w', '5', '-F', `FAAS-${bridge.network.slice(0, 12)}-OUT`]);
    one.recheck();
    await vi.waitFor(async () => {
      await one.ready();
      expect(rules('iptables', bridge.network)).toEqual(before);
    }, 40_000);
  });

  it('go with their network', async () => {
    await networkOf().ready();
    const { bridge } = await place();
    expect(rules('iptables', bridge.network)).not.toEqual([]);
    await docker.getNetwork(config.network).remove();
    await removeStaleRules();
    for (const program of ['iptables', 'ip6tables']) expect(rules(program, bridge.network)).toEqual([]);
  });

  it('can be set by hand with what is printed, again and again, and are the same', async () => {
    const { bridge, check } = await place();
    expect(await hostIsOpen(engine, check, signal())).toBe('workers reach this machine');
    const script = shellScript([{ bridge, policy: await policyOf(config) }], families());
    for (let times = 0; times < 2; times += 1) execFileSync('sh', { input: script });
    expect(await hostIsOpen(engine, check, signal())).toBeUndefined();
    const printed = rules('iptables', bridge.network);
    await networkOf().ready();
    expect(rules('iptables', bridge.network)).toEqual(printed);
  });

  it('are missed where another filter keeps workers from this machine alone', async () => {
    const { bridge, check } = await place();
    const drop = ['INPUT', '-i', bridge.name, '-j', 'DROP'];
    execFileSync('iptables', ['-w', '5', '-I', ...drop]);
    try {
      expect(await hostIsOpen(engine, check, signal())).toMatch(
        /workers may reach private addresses: a connection from a container to 169\.254\.169\.254:80 /,
      );
    } finally {
      execFileSync('iptables', ['-w', '5', '-D', ...drop]);
    }
  });

  it('are missed aloud where they can’t be set, and workers start all the same', async () => {
    await networkOf({}, foreign()).ready();
    await vi.waitFor(() => expect(lines.join('')).toMatch(/workers may reach this machine: run .*firewall/));
    expect(lines.join('')).toContain('the engine is on another machine');
  });

  it('are waited for where they are required', async () => {
    const required = { firewall: { mode: 'required', allow: [] } } as const;
    await expect(networkOf(required, foreign()).ready()).rejects.toThrow(NetworkUnusable);
    await expect(networkOf(required).ready()).resolves.toBe('address');
  });
});

/** The rules of a network's chains, and those that lead there. */
function rules(program: string, network: string): string[] {
  const saved = execFileSync(`${program}-save`, ['-t', 'filter'], { encoding: 'utf8' });
  return saved.split('\n').filter((line) => line.startsWith('-A') && line.includes(`FAAS-${network.slice(0, 12)}-`));
}
