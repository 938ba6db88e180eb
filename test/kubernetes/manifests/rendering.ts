import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { KubernetesObject } from '@kubernetes/client-node';
import { parseAllDocuments, stringify } from 'yaml';

const run = promisify(execFile);
const CACHE = resolve('.cache');
const OURS = join(CACHE, 'kustomize', 'kustomize');
const REQUIRED = process.env['REQUIRE_KUSTOMIZE'] === '1';

/** What `kubectl apply -k` would be given; undefined programs are tried in turn. */
const CANDIDATES: readonly (readonly [program: string, ...args: string[]])[] = [
  [OURS, 'build'],
  ['kustomize', 'build'],
  ['kubectl', 'kustomize'],
];

const program = await firstThatRuns();

/** Why nothing can be rendered here; undefined when it can. With REQUIRE_KUSTOMIZE=1 suites run in any case. */
export function whyNoKustomize(): string | undefined {
  if (program !== undefined || REQUIRED) return undefined;
  const reason = 'neither kustomize nor kubectl is there: scripts/install-kustomize.sh makes one';
  process.stderr.write(`skipped: ${reason}\n`);
  return reason;
}

/** The objects of a folder below k8s, in the order in which they are applied. */
export async function render(folder: string): Promise<KubernetesObject[]> {
  return build(join('k8s', folder));
}

/** The objects of an overlay that somebody else wrote on ours; folders are those below k8s. */
export async function renderOverlay(overlay: {
  readonly resources: readonly string[];
  readonly components?: readonly string[];
  readonly [field: string]: unknown;
}): Promise<KubernetesObject[]> {
  await mkdir(CACHE, { recursive: true });
  const folder = await mkdtemp(join(CACHE, 'overlay-'));
  const ours = (names: readonly string[]) => names.map((name) => relative(folder, resolve('k8s', name)));
  try {
    const { resources, components = [], ...rest } = overlay;
    const kustomization = { ...rest, resources: ours(resources), components: ours(components) };
    await writeFile(join(folder, 'kustomization.yaml'), stringify(kustomization));
    return await build(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

export function parseObjects(text: string): KubernetesObject[] {
  return parseAllDocuments(text).map((document) => {
    if (document.errors.length > 0) throw new Error(document.errors.map(({ message }) => message).join('\n'));
    return document.toJS() as KubernetesObject;
  });
}

async function build(folder: string): Promise<KubernetesObject[]> {
  if (program === undefined) throw new Error('No kustomize was found.');
  const [name, ...args] = program;
  const { stdout } = await run(name, [...args, folder], { maxBuffer: 16 * 1024 * 1024, timeout: 60_000 });
  return parseObjects(stdout);
}

async function firstThatRuns(): Promise<(typeof CANDIDATES)[number] | undefined> {
  for (const candidate of CANDIDATES) {
    const [name, ...args] = candidate;
    if (name === OURS && !existsSync(OURS)) continue;
    const runs = await run(name, [...args, '--help'], { timeout: 20_000 }).then(
      () => true,
      () => false,
    );
    if (runs) return candidate;
  }
  return undefined;
}
