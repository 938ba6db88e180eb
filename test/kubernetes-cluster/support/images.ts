/** Images as the cluster's nodes know them. */
export const CLUSTER_IMAGES = {
  worker: process.env['WORKER_IMAGE'] ?? 'docker.io/library/faas-worker:local',
  /** One that offers the bare contract. */
  plain: process.env['PLAIN_WORKER_IMAGE'] ?? 'docker.io/library/faas-plain:test',
};
