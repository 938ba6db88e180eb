import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const FOLDER = '.github/workflows';
/** A commit can't be moved to other code, as a tag can; the comment says which release it is. */
const PINNED = /^[\w.-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/;

interface Step {
  readonly id?: string;
  readonly name?: string;
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}

interface Job {
  readonly needs?: string;
  readonly 'runs-on': string;
  readonly 'timeout-minutes': number;
  readonly permissions?: Readonly<Record<string, string>>;
  readonly strategy?: { readonly matrix: { readonly include: readonly Readonly<Record<string, string>>[] } };
  readonly steps: readonly Step[];
}

interface Workflow {
  readonly on: object;
  readonly permissions: unknown;
  readonly jobs: Readonly<Record<string, Job>>;
}

const files = readdirSync(FOLDER).filter((name) => /\.ya?ml$/.test(name));
const textOf = (name: string) => readFileSync(join(FOLDER, name), 'utf8');
const workflowOf = (name: string) => parse(textOf(name)) as Workflow;

const KEYS = {
  workflow: ['name', 'on', 'permissions', 'concurrency', 'jobs'],
  job: ['needs', 'runs-on', 'timeout-minutes', 'permissions', 'strategy', 'steps'],
  step: ['id', 'name', 'if', 'uses', 'with', 'run', 'env'],
};

describe.each(files)('The workflow %s', (name) => {
  it('uses each action at a commit, and says which release that is', () => {
    const used = [...textOf(name).matchAll(/^\s*(?:- )?uses:\s*(.*)$/gm)].map(([, what = '']) => what);
    expect(used.length).toBeGreaterThan(0);
    for (const what of used) expect(what).toMatch(PINNED);
  });

  it('has only the parts that workflows have, and a bound in time for each job', () => {
    const workflow = workflowOf(name);
    expect(KEYS.workflow).toEqual(expect.arrayContaining(Object.keys(workflow)));
    for (const job of Object.values(workflow.jobs)) {
      expect(KEYS.job).toEqual(expect.arrayContaining(Object.keys(job)));
      if (job.needs !== undefined) expect(Object.keys(workflow.jobs)).toContain(job.needs);
      expect(job['runs-on']).toMatch(/^ubuntu-\d+\.\d+$/);
      expect(job['timeout-minutes']).toBeLessThanOrEqual(120);
      for (const step of job.steps) {
        expect(KEYS.step).toEqual(expect.arrayContaining(Object.keys(step)));
        expect([step.uses, step.run].filter((one) => one !== undefined)).toHaveLength(1);
      }
    }
  });

  it('may read the repository and, unless a job says so, nothing else; and leaves no login behind', () => {
    const { permissions, jobs } = workflowOf(name);
    expect(permissions).toEqual({ contents: 'read' });
    const checkouts = Object.values(jobs).flatMap(({ steps }) =>
      steps.filter(({ uses }) => /\/checkout@/.test(uses ?? '')),
    );
    for (const { with: given } of checkouts) expect(given).toMatchObject({ 'persist-credentials': false });
  });

  it('puts no expression into a script, where it would be run', () => {
    for (const { steps } of Object.values(workflowOf(name).jobs)) {
      for (const { run = '' } of steps) expect(run).not.toContain('${{');
    }
  });

  it('refers to steps that come before', () => {
    for (const { steps } of Object.values(workflowOf(name).jobs)) {
      steps.forEach((step, at) => {
        const before = steps.slice(0, at).map(({ id }) => id);
        for (const [, id] of JSON.stringify(step).matchAll(/steps\.([\w-]+)\./g)) expect(before).toContain(id);
      });
    }
  });
});

describe('The release', () => {
  const job = workflowOf('release.yml').jobs['image']!;
  const step = (action: string) => job.steps.find(({ uses }) => uses?.startsWith(`${action}@`));

  it('is of all images, from Dockerfiles that are there', () => {
    const images = job.strategy?.matrix.include ?? [];
    expect(images.map(({ name }) => name)).toEqual(['worker', 'builder', 'manager']);
    for (const { file = '' } of images)
      expect(readFileSync(file, 'utf8')).toMatch(/^ARG BASE_IMAGE=[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$/m);
  });

  it('is built on the bases that its Dockerfiles pin by digest, and says what it is made of and how', () => {
    expect(step('docker/build-push-action')?.with).not.toHaveProperty('build-args');
    expect(step('docker/build-push-action')?.with).toMatchObject({
      push: true,
      sbom: true,
      provenance: 'mode=max',
    });
    expect(step('actions/attest-build-provenance')?.with).toMatchObject({
      'subject-digest': '${{ steps.push.outputs.digest }}',
      'push-to-registry': true,
    });
    expect(job.permissions).toEqual({
      contents: 'read',
      packages: 'write',
      'id-token': 'write',
      attestations: 'write',
    });
  });
});
