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

/** Suites that take minutes. */
const LONG = ['test/crash/', 'test/contract/', 'test/pool/', 'test/e2e/scaling', 'test/kubernetes/pool'];

/** They go first, so that nobody waits for the last of them alone. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => LONG.some((part) => moduleId.includes(part));
    // oxlint-disable-next-line unicorn/no-array-sort -- of the sequencer, not of an array
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
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
      {
        resolve: { alias },
        test: {
          // Each file has its own database and part of an engine. They mostly wait, but some behaviours are promised
          // within milliseconds: so two at once, and no more.
          name: 'whole',
          include: ['test/**/*.spec.ts'],
          exclude: ['test/kubernetes-cluster/**'],
          maxWorkers: 2,
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
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
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
