import { afterAll, beforeAll, expect, vi } from 'vitest';
import type { EngineRoom, TestEngine } from './engine.js';
import { type Env, TestManager } from './manager.js';
import { createSharedDatabase, dropSharedDatabase, startTestPostgres, type TestPostgres } from './postgres.js';

/** A database and a part of an engine, and the managers on them. At its end nothing of it is left. */
export class Stage {
  room: EngineRoom;
  private database: string;
  private server: TestPostgres | undefined;
  private readonly managers: TestManager[] = [];

  private constructor(
    readonly engine: TestEngine,
    private readonly hasOwnServer: boolean,
  ) {}

  /** For the suite that calls it, with its first manager started. */
  static on(engine: TestEngine, env: Env = {}): Stage {
    return Stage.open(new Stage(engine, false), env);
  }

  /** The same with a database server that the suite may take away. */
  static withOwnServer(engine: TestEngine, env: Env = {}): Stage {
    return Stage.open(new Stage(engine, true), env);
  }

  private static open(stage: Stage, env: Env): Stage {
    beforeAll(async () => {
      await stage.open();
      await stage.start(env);
    });
    afterAll(() => stage.close());
    return stage;
  }

  /** The manager that was started first. */
  get manager(): TestManager {
    return this.managers[0]!;
  }

  get databaseUrl(): string {
    return this.database;
  }

  get postgres(): TestPostgres {
    if (this.server === undefined) throw new Error('The database server of this stage is shared.');
    return this.server;
  }

  /** One more manager of the same installation. */
  async start(env: Env = {}): Promise<TestManager> {
    const hasKeys: Env = env['API_KEYS'] === undefined ? {} : { AUTH_DISABLED: '' };
    const manager = await TestManager.start({ DATABASE_URL: this.database, ...this.room.env, ...hasKeys, ...env });
    this.managers.push(manager);
    return manager;
  }

  private async open(): Promise<void> {
    if (this.hasOwnServer) this.server = await startTestPostgres();
    this.database = await (this.server?.createDatabase() ?? createSharedDatabase());
    this.room = await this.engine.openRoom();
  }

  /** Removing all functions must remove all workers: checked here once more after every suite. */
  private async close(): Promise<void> {
    try {
      if (this.manager !== undefined) await this.checkNothingIsLeft();
    } finally {
      await Promise.all(this.managers.map((manager) => manager.stop()));
      await this.room.clear();
      await (this.server?.stop() ?? dropSharedDatabase(this.database));
    }
  }

  private async checkNothingIsLeft(): Promise<void> {
    await Promise.all(this.managers.map((manager) => manager.stop()));
    const last = await this.start();
    const listed = await last.send('/functions');
    expect(listed.status, listed.text).toBe(200);
    const functions = listed.json() as { id: string }[];
    await Promise.all(functions.map(({ id }) => last.remove(id)));
    await vi.waitFor(async () => expect((await last.send('/functions')).json()).toEqual([]), { timeout: 60_000 });
    await vi.waitFor(async () => expect(await this.room.workers()).toEqual([]), { timeout: 30_000 });
  }
}
