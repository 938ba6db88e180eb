import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Capacity } from './controllers/scheduler.js';
import type { WorkerImage } from './node/container-run.js';

/** Plain data, so that it can be handed to a process of its own. */
export interface ApiOptions {
  /** Where functions live; made at the start. */
  readonly namespace?: string;
  /** The manager's ServiceAccount: `namespace:name`. */
  readonly manager?: string;
  /** The Role that the manager's token is held to. */
  readonly roleFile?: string;
  readonly image?: Partial<WorkerImage>;
  readonly capacity?: Partial<Capacity>;
  /** Where its own folder is made; the machine's folder for temporary files if not given. */
  readonly tmpDir?: string;
  /** Milliseconds before each restart in a row of a container that ended. */
  readonly backOffMs?: readonly number[];
  /** Milliseconds between tries for an image or a ConfigMap that isn't there. */
  readonly retryMs?: number;
  /** Milliseconds between the bookmarks of a watch. */
  readonly bookmarkMs?: number;
}

export interface Settings {
  readonly namespace: string;
  readonly managerName: string;
  readonly roleFile: string;
  readonly image: WorkerImage;
  readonly capacity: Capacity;
  readonly tmpDir: string;
  readonly backOffMs: readonly number[];
  readonly retryMs: number;
  readonly bookmarkMs: number;
}

const ROLE_FILE = 'k8s/functions/role.yaml';

export function settingsOf(options: ApiOptions): Settings {
  const standIn = fileURLToPath(new URL('./support/role.yaml', import.meta.url));
  const python = process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python';
  const image = { name: 'faas-worker:local', python, workerDir: 'apps/worker', ...options.image };
  return {
    namespace: options.namespace ?? 'scadable-faas',
    managerName: `system:serviceaccount:${options.manager ?? 'service-faas:faas-manager'}`,
    roleFile: options.roleFile ?? (existsSync(ROLE_FILE) ? ROLE_FILE : standIn),
    image: { ...image, python: resolve(image.python), workerDir: resolve(image.workerDir) },
    capacity: { cpu: '16', memory: '64Gi', pods: '110', ...options.capacity },
    tmpDir: options.tmpDir ?? tmpdir(),
    backOffMs: options.backOffMs ?? [0, 500, 1000, 2000, 4000],
    retryMs: options.retryMs ?? 500,
    bookmarkMs: options.bookmarkMs ?? 2000,
  };
}
