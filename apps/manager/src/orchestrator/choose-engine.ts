import type { Engine } from '#libs/config/config.js';

export interface Choice {
  readonly engine: Engine;
  readonly reason: string;
}

export interface Surroundings {
  readonly configured: Engine | undefined;
  readonly insideKubernetes: boolean;
  /** Answers why Docker can't be used, or undefined when it can. */
  readonly dockerFault: () => Promise<string | undefined>;
}

/** The configured engine, else Kubernetes inside a cluster, else Docker where it answers, else processes. */
export async function chooseEngine({ configured, insideKubernetes, dockerFault }: Surroundings): Promise<Choice> {
  if (configured !== undefined) return { engine: configured, reason: 'DEPLOYMENT_ENV says so' };
  if (insideKubernetes) return { engine: 'kubernetes', reason: 'the manager runs inside a cluster' };
  const fault = await dockerFault();
  if (fault === undefined) return { engine: 'docker', reason: 'a Docker engine answers' };
  return { engine: 'process', reason: `no Docker engine answers (${fault})` };
}
