import { KubernetesEngine } from '../stage/kubernetes-engine.mjs';
import { firstAnswers } from './scale-from-zero.mjs';

/** A pod that leaves takes seconds, and the next wake waits for that. */
const ROUNDS = { count: 15, seconds: 900 };
const LIMITS = { milliseconds: { 0.5: 40, 0.95: 100, 0.99: undefined }, leastFaster: 20, mostTimesByHand: 3 };

/** What `scale-from-zero` measures, on the cluster that `KUBECONFIG` names, by a manager on this machine. */
export async function measureKubernetesWake(stage) {
  const engine = await KubernetesEngine.open(stage);
  const cluster = await engine.describe();
  console.log(`• on ${cluster}`);
  return { cluster, ...(await firstAnswers(stage.on(engine), ROUNDS, LIMITS)) };
}
