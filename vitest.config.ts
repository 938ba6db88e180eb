import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const alias = [{ find: /^#libs\/(.*)\.js$/, replacement: fileURLToPath(new URL('./libs/$1.ts', import.meta.url)) }];

/** Suites of users' view that an engine can make a difference to. */
const onTheClusterToo = [
  'bad-calls',
  'call-errors',
  'database-outage',
  'engine-outage',
  'functions',
  'lifecycle',
  'plain-image',
  'races',
  'scaling',
  'upload-errors',
].map((name) => `test/e2e/${name}.spec.ts`);

/** Suites of the small Kubernetes and of the provider on it that a real one must pass too. */
const onBothClusters = ['test/kubernetes/api/*.spec.ts', 'test/kubernetes/{tampering,api-outage,pool-calls}.spec.ts'];

/** Suites that take minutes. The first of them run while the worker is tested with pytest beside them. */
const LONGEST = ['test/crash/process', 'test/pool/docker', 'test/kubernetes/pool', 'test/e2e/scaling'].map(
  (name) => `${name}.spec.ts`,
);
const LONG = ['test/crash/', 'test/contract/', 'test/pool/'];

/** What the engines and the parts below the API promise, with deadlines that leave time. */
const ENGINES = 'test/{contract,crash,docker,kubernetes,model,pool,reconcile}/**/*.spec.ts';

/** Long ones go first, so that nobody waits for the last of them alone. */
class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => LONG.some((part) => moduleId.includes(part));
    // oxlint-disable-next-line unicorn/no-array-sort -- of the sequencer, not of an array
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/** Each file has its own database and part of an engine. They mostly wait, so a few run at once; not more than that. */
function suites(name: string, groupOrder: number, atOnce: number, include: string[], exclude: string[]) {
  return {
    resolve: { alias },
    test: {
      name,
      include,
      exclude,
      maxWorkers: atOnce,
      testTimeout: 60_000,
      hookTimeout: 120_000,
      sequence: { groupOrder },
    },
  };
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongFirst },
    projects: [
      {
        resolve: { alias },
        test: {
          name: 'beside-the-code',
          include: ['apps/**/*.spec.ts', 'libs/**/*.spec.ts'],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      suites('long', 1, 2, LONGEST, []),
      suites('engines', 2, 3, [ENGINES], LONGEST),
      // Some of what users see is promised within milliseconds.
      suites('whole', 3, 2, ['test/**/*.spec.ts'], ['test/kubernetes-cluster/**', ENGINES, ...LONGEST]),
      {
        resolve: { alias },
        test: {
          // Run by npm run test:kubernetes alone, on a cluster that is given to it.
          name: 'cluster',
          env: { TEST_ENGINE: 'kubernetes' },
          include: ['test/kubernetes-cluster/**/*.spec.ts', ...onBothClusters, ...onTheClusterToo],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 4 },
        },
      },
    ],
  },
});
