import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { callOverHttp } from '#libs/orchestrator/testing/contract.js';
import { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { accessCluster } from '#libs/orchestrator-kubernetes/cluster-access.js';
import { KubernetesOrchestrator } from '#libs/orchestrator-kubernetes/kubernetes.orchestrator.js';
import type { Env } from '../../support/manager.js';
import type { ApiOptions } from '../api/options.js';
import { SmallCluster } from './small-cluster.js';

const DEADLINE_MS = 30_000;

/** The provider on a small Kubernetes of its own, with a stage for each test of the suite that calls it. */
export class ProviderSuite {
  cluster!: SmallCluster;
  stage!: Stage;

  /** `env` is the provider's configuration in all of it. */
  static on(options: ApiOptions = {}, env: Env = {}): ProviderSuite {
    const suite = new ProviderSuite(env);
    beforeAll(async () => {
      suite.cluster = await SmallCluster.open(options);
    });
    afterAll(() => suite.cluster.close());
    beforeEach(() => {
      suite.stage = new Stage(suite.harness(), { deadlineMs: DEADLINE_MS });
    });
    afterEach(() => suite.stage.close());
    return suite;
  }

  private constructor(private readonly env: Env) {}

  get controls(): SmallCluster['api']['controls'] {
    return this.cluster.api.controls;
  }

  /** A provider with a configuration, or a kubeconfig, that differs from the suite's. */
  provider(env: Env, owner = this.stage.owner): KubernetesOrchestrator {
    const config = this.cluster.configOf({ ...this.env, ...env });
    const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
    return new KubernetesOrchestrator(config, owner, logger, accessCluster(config.kubeconfig, false));
  }

  private harness(): ConstructorParameters<typeof Stage>[0] {
    return {
      restartsByItself: true,
      open: (owner) => this.provider({}, owner),
      shut: (orchestrator) => (orchestrator as KubernetesOrchestrator).close(),
      call: callOverHttp,
      kill: async (_functionId, replica) => void (await this.controls.kill(replica.split('/', 1)[0] ?? replica)),
      close: () => undefined,
    };
  }
}
