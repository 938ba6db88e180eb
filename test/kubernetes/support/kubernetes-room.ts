import { KubeConfig } from '@kubernetes/client-node';
import type { EngineRoom } from '../../support/engine.js';
import type { ClusterObjects } from './cluster-objects.js';

/** A namespace for functions with an administrator's view of it, on a cluster that may be real or small. */
export interface KubernetesRoom extends EngineRoom {
  readonly cluster: ClusterObjects & {
    /** As the manager's own rights allow it. */
    managerConfig(): Promise<string>;
  };
  /** A kubeconfig of this content, which goes with the room. */
  kubeconfig(content: string): Promise<string>;
}

/** Of a cluster that isn't there. */
export function nobodysConfig(): string {
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: 'nowhere', server: 'http://127.0.0.1:9', skipTLSVerify: false },
    { name: 'nobody' },
  );
  return config.exportConfig();
}
