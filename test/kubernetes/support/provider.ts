import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { callOverHttp } from '#libs/orchestrator/testing/contract.js';
import { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { NO_POOL, type PoolConfig } from '#libs/config/config.js';
import { accessCluster } from '#libs/orchestrator-kubernetes/cluster-access.js';
import { KubernetesOrchestrator } from '#libs/orchestrator-kubernetes/kubernetes.orchestrator.js';
import type { Env } from '../../support/manager.js';
import type { NodeOptions } from '../node/node.js';
import { PoolView } from './pool-pods.js';
import { SmallCluster } from './small-cluster.js';

const DEADLINE_MS = 60_000;

/** The provider on a small cluster of its own, with a stage for each test of the suite that calls it. */
export class ProviderSuite {
  cluster!: SmallCluster;
  stage!: Stage;
  private readonly watching = new AbortController();

  /** `env` is the provider's configuration in all of it. */
  static on(
    options: NodeOptions = {},
    env: Env = {},
    pool: PoolConfig = NO_POOL,
    deadlineMs = DEADLINE_MS,
  ): ProviderSuite {
    const suite = new ProviderSuite(env, pool);
    beforeAll(async () => {
      suite.cluster = await SmallCluster.open(options);
    });
    afterAll(async () => {
      suite.watching.abort();
      await suite.cluster.close();
    });
    beforeEach(() => {
      suite.stage = new Stage(suite.harness(), { deadlineMs });
    });
    afterEach(() => suite.stage.close());
    return suite;
  }

  private constructor(
    private readonly env: Env,
    private readonly pool: PoolConfig,
  ) {}

  /** A provider with a configuration, or a kubeconfig, that differs from the suite's. */
  provider(env: Env, owner = this.stage.owner, pool = this.pool): KubernetesOrchestrator {
    const config = this.cluster.configOf({ ...this.env, ...env });
    const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
    return new KubernetesOrchestrator(
      config,
      owner,
      TEST_TOKENS,
      logger,
      accessCluster(config.kubeconfig, false),
      pool,
    );
  }

  /** With its pool full. */
  private async opened(owner: string): Promise<KubernetesOrchestrator> {
    const pool = new PoolView(this.cluster, owner);
    const others = await pool.waiting();
    const provider = this.provider({}, owner);
    if (this.pool.size === 0) return provider;
    void provider.watch(() => undefined, this.watching.signal);
    await pool.filled(this.pool.size, others);
    return provider;
  }

  private harness(): ConstructorParameters<typeof Stage>[0] {
    return {
      restartsByItself: true,
      open: (owner) => this.opened(owner),
      shut: (orchestrator) => (orchestrator as KubernetesOrchestrator).close(),
      call: callOverHttp,
      kill: async (_functionId, replica) => void (await this.cluster.node.kill(replica.split('/', 1)[0] ?? replica)),
      close: () => undefined,
    };
  }
}
