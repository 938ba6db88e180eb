import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** `#libs/…` is the sources here, as for all tools, and the build where the program runs. */
const conditions = ['source', 'module', 'node', 'development|production'];
const sources = { resolve: { conditions }, ssr: { resolve: { conditions } } };

/** Suites of users' view that an engine can make a difference to. */
const onTheClusterToo = [
  'background-calls',
  'bad-calls',
  'call-errors',
  'database-outage',
  'engine-outage',
  'function-settings',
  'functions',
  'history',
  'hostile',
  'http-calls',
  'later-http',
  'lifecycle',
  'logs',
  'ordinary-python',
  'plain-image',
  'races',
  'revisions',
  'runs',
  'scaling',
  'schedules',
  'secrets',
  'settings',
  'traffic',
  'upload-errors',
  'web-sockets',
].map((name) => `test/e2e/${name}.spec.ts`);

/** Suites that any cluster must pass, and not only one whose nodes and faults are ours. */
const onBothClusters = 'test/kubernetes/{tampering,api-outage,pool-calls}.spec.ts';

/** Suites that load this machine as much as they can, or promise what takes milliseconds. */
const ALONE = [
  'test/crash/**/*.spec.ts',
  'test/e2e/{bad-requests,hostile,metrics,ordinary-python,overload}.spec.ts',
  'test/hostile/{answers,costly-json,keys,kept-resources,neighbour,pipelining,post-mortem,runner-header}.spec.ts',
  'test/hostile/{small-manager,streams,takeover}.spec.ts',
  'test/model/**/*.spec.ts',
  // The former release takes a busy machine for a runner that is stuck.
  'test/release/upgrade.spec.ts',
];

/** Suites that take minutes, the longest first. */
const LONG = [
  'test/crash/process.spec.ts',
  'test/crash/docker.spec.ts',
  'test/crash/kubernetes.spec.ts',
  'test/hostile/neighbour.spec.ts',
  'test/e2e/ordinary-python.spec.ts',
  'test/contract/docker-pool.spec.ts',
  'test/e2e/scaling.spec.ts',
  'test/contract/kubernetes.spec.ts',
  'test/kubernetes/pool.spec.ts',
  'test/contract/docker.spec.ts',
  'test/contract/process.spec.ts',
  'test/kubernetes/api-outage.spec.ts',
  'test/e2e/functions.spec.ts',
  'test/pool/docker.spec.ts',
  'test/database/embedded-postgres.spec.ts',
  'test/kubernetes/pool-deaths.spec.ts',
];

/** So that nobody waits for the last of them alone. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // oxlint-disable-next-line unicorn/no-array-sort -- of the sequencer, not of an array
    const sorted = await super.sort(files);
    const isOf = (name: string) => (file: TestSpecification) => file.moduleId.endsWith(`/${name}`);
    const long = LONG.flatMap((name) => sorted.filter(isOf(name)));
    return [...long, ...sorted.filter((file) => !long.includes(file))];
  }
}

const POSTGRES = 'test/support/shared-postgres.ts';
const CONTROL_PLANE = 'test/kubernetes/control-plane/shared.ts';

/** What tests wait for and give no time of its own may come late on a busy machine. */
const PATIENCE_MS = 15_000;
const patient = {
  setupFiles: ['test/support/patience.ts'],
  provide: { patienceMs: PATIENCE_MS },
  expect: { poll: { timeout: PATIENCE_MS } },
};

/** Each file has its own database and part of an engine. */
const whole = {
  ...patient,
  globalSetup: [POSTGRES, CONTROL_PLANE],
  testTimeout: 120_000,
  hookTimeout: 180_000,
};

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        ...sources,
        test: {
          ...patient,
          name: 'unit',
          include: ['apps/**/*.spec.ts', 'libs/**/*.spec.ts'],
          isolate: false,
          maxWorkers: 2,
          testTimeout: 30_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        ...sources,
        test: {
          ...whole,
          name: 'alone',
          include: ALONE,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        ...sources,
        test: {
          ...whole,
          // They wait half of their time: more at once than CI has processors.
          name: 'whole',
          include: ['test/**/*.spec.ts'],
          exclude: [...ALONE, 'test/kubernetes-cluster/**'],
          maxWorkers: 3,
          sequence: { groupOrder: 2 },
        },
      },
      {
        ...sources,
        test: {
          ...patient,
          globalSetup: POSTGRES,
          // Run by npm run test:kubernetes alone, on a cluster that is given to it.
          name: 'cluster',
          env: { TEST_ENGINE: 'kubernetes' },
          include: ['test/kubernetes-cluster/**/*.spec.ts', onBothClusters, ...onTheClusterToo],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
