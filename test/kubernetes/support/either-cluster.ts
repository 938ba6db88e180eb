import { namespaceEngine } from '../../kubernetes-cluster/support/room.js';
import { ON_CLUSTER, type TestEngine } from '../../support/engine.js';
import type { KubernetesRoom } from './kubernetes-room.js';
import { smallEngine } from './small-room.js';

/** A small cluster of the run's control plane; in `npm run test:kubernetes` the whole one that is given to it. */
export function eitherCluster(seen: (room: KubernetesRoom) => void): TestEngine {
  return ON_CLUSTER ? namespaceEngine(seen) : smallEngine(seen);
}
