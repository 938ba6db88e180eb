import { loadConfig } from '#libs/config/load-config.js';
import { PinoLogger } from 'nestjs-pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { InstallationRepository } from '../../apps/manager/src/orchestrator/installation.repository.js';
import { NewestSettings } from '../../apps/manager/src/reconciler/newest-settings.js';
import { Keyring } from '../../apps/manager/src/secrets/keyring.js';
import { createSharedDatabase } from '../support/postgres.js';
import { DEFAULTS, Installation, RunningManager, silent } from './installation.js';
import { MortalDatabase } from './life.js';

const TIMES = { beatMs: 40, silenceMs: 800, silenceAfterEndMs: 200, lookAgainMs: 100 };
/** Each look counts at most a beat of silence. */
const LOOKS_OF_SILENCE = TIMES.silenceMs / TIMES.beatMs;

let here: Installation;

/** A manager whose settings are the memory that it gives to functions. */
class Settled extends NewestSettings {
  protected override readonly times = TIMES;
  /** How often it has compared settings. */
  comparisons = 0;

  private constructor(
    readonly manager: RunningManager,
    memoryMiB: number,
  ) {
    const { functions, orchestrator } = loadConfig({ WORKER_MEMORY_MIB: String(memoryMiB) });
    const installation = new InstallationRepository(new MortalDatabase(here.source, manager.life), silent);
    const { repository, slots, loop, notifications } = manager;
    const logger = new PinoLogger({ pinoHttp: { level: 'silent' } });
    super(
      installation,
      repository,
      slots,
      loop,
      manager.orchestrator,
      notifications,
      functions,
      orchestrator,
      new Keyring([]),
      logger,
    );
    const beat = installation.beat.bind(installation);
    installation.beat = (sha256) => {
      this.comparisons += 1;
      return beat(sha256);
    };
  }

  static async start(memoryMiB: number, { isNew = true, engineAnswers = true } = {}): Promise<Settled> {
    const one = new Settled(new RunningManager(here, DEFAULTS), memoryMiB);
    if (!engineAnswers) one.manager.orchestrator.ping = () => Promise.reject(new Error('no answer'));
    one.manager.start();
    running.push(one);
    await one.begin(isNew);
    return one;
  }

  get acts(): boolean {
    return !this.manager.slots.isOutdated;
  }

  /** As SIGTERM does. */
  async leave(): Promise<void> {
    await this.stop();
    await this.manager.stop();
  }

  /** As `kill -9` does. */
  async crash(): Promise<void> {
    this.withdraw();
    await this.manager.crash();
  }

  async untilItActs(): Promise<void> {
    await vi.waitUntil(() => this.acts, { timeout: 20_000, interval: 5 });
  }

  async untilItGivesWay(): Promise<void> {
    await vi.waitUntil(() => !this.acts, { timeout: 20_000, interval: 5 });
  }

  /** Looks again, for longer than any silence is tolerated. */
  async looksOn(): Promise<void> {
    const enough = this.comparisons + 2 * LOOKS_OF_SILENCE;
    await vi.waitUntil(() => this.comparisons >= enough, { timeout: 30_000, interval: 5 });
  }
}

const running: Settled[] = [];

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterEach(async () => {
  for (const one of running.splice(0)) await one.crash();
  await here.reset();
  await here.database.query(`UPDATE installation SET settings_sha256 = '', settings_beats = 0`);
});
afterAll(() => here.close());

const memoryOf = async (id: string) => (await here.row(id)).memoryMiB;

describe('managers with different settings', () => {
  it('have one that acts from its start on where there is no other', async () => {
    const only = await Settled.start(100);
    expect(only.acts).toBe(true);
  });

  it('follow the one that was started last, and so do functions', async () => {
    const older = await Settled.start(100);
    const id = await here.add({ memoryMiB: 100 });
    const newer = await Settled.start(200);
    expect(newer.acts).toBe(true);
    await older.untilItGivesWay();
    expect(await memoryOf(id)).toBe(200);
    await older.looksOn();
    expect([older.acts, newer.acts]).toEqual([false, true]);
    expect(await memoryOf(id)).toBe(200);
    // Going back is starting the former settings again.
    const again = await Settled.start(100);
    await newer.untilItGivesWay();
    await older.untilItActs();
    expect(again.acts).toBe(true);
    expect(await memoryOf(id)).toBe(100);
  });

  it('stay with the older one until the engine of the newer one answers', async () => {
    const older = await Settled.start(100);
    const newer = await Settled.start(200, { engineAnswers: false });
    await newer.looksOn();
    expect([older.acts, newer.acts]).toEqual([true, false]);
    newer.manager.orchestrator.ping = () => Promise.resolve();
    await newer.untilItActs();
    await older.untilItGivesWay();
  });

  it('never go back to the older one while a newer one is alive', async () => {
    const older = await Settled.start(100);
    const first = await Settled.start(200);
    const second = await Settled.start(300);
    await Promise.all([older.looksOn(), first.looksOn()]);
    expect([older.acts, first.acts, second.acts]).toEqual([false, false, true]);
  });

  it('go back to the older one soon after the newer one has been stopped in order', async () => {
    const older = await Settled.start(100);
    const id = await here.add({ memoryMiB: 100 });
    const newer = await Settled.start(200);
    await older.untilItGivesWay();
    const { comparisons } = older;
    await newer.leave();
    await older.untilItActs();
    expect(older.comparisons - comparisons).toBeLessThan(LOOKS_OF_SILENCE);
    await vi.waitFor(async () => expect(await memoryOf(id)).toBe(100));
  });

  it('go back to the older one when the newer one has been silent for long, as after a crash', async () => {
    const older = await Settled.start(100);
    const newer = await Settled.start(200);
    await older.untilItGivesWay();
    const { comparisons } = older;
    await newer.crash();
    await older.untilItActs();
    expect(older.comparisons - comparisons).toBeGreaterThanOrEqual(LOOKS_OF_SILENCE);
  });

  it('leave a silent one’s place to one whose engine answers, and else to any, later', async () => {
    const older = await Settled.start(100);
    const silentOne = await Settled.start(200);
    await older.untilItGivesWay();
    older.manager.orchestrator.ping = () => Promise.reject(new Error('no answer'));
    const { comparisons } = older;
    await silentOne.crash();
    await older.untilItActs();
    expect(older.comparisons - comparisons).toBeGreaterThanOrEqual(2 * LOOKS_OF_SILENCE);
  });

  it.each([
    ['is stopped in order', (one: Settled) => one.leave()],
    ['crashes', (one: Settled) => one.crash()],
  ])('stay with the newer ones when one of two %s and is started again', async (_how, end) => {
    const older = await Settled.start(100);
    const newer = [await Settled.start(200), await Settled.start(200)] as const;
    await older.untilItGivesWay();
    await end(newer[0]);
    await older.looksOn();
    expect([older.acts, newer[1].acts]).toEqual([false, true]);
    const again = await Settled.start(200);
    await older.looksOn();
    expect([older.acts, newer[1].acts, again.acts]).toEqual([false, true, true]);
  });

  it('stay with the newer one when a process of an older one is replaced', async () => {
    const older = await Settled.start(100);
    const newer = await Settled.start(200);
    await older.crash();
    const replacement = await Settled.start(100, { isNew: false });
    await replacement.looksOn();
    expect([replacement.acts, newer.acts]).toEqual([false, true]);
  });
});
