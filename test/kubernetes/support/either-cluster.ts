import { namespaceEngine } from '../../kubernetes-cluster/support/room.js';
import { ON_CLUSTER, type TestEngine } from '../../support/engine.js';
import type { KubernetesRoom } from './kubernetes-room.js';
import { smallEngine } from './small-room.js';

/** The small Kubernetes of these tests; in `npm run test:kubernetes` the real one, which is the judge. */
export function eitherCluster(seen: (room: KubernetesRoom) => void): TestEngine {
  return ON_CLUSTER ? namespaceEngine(seen) : smallEngine(seen);
}
