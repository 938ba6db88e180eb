import type Docker from 'dockerode';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DockerEngine } from './docker-engine.js';
import { SECCOMP_PROFILE } from './seccomp-profile.js';
import { WorkerSeccomp } from './worker-seccomp.js';

interface Info {
  readonly SecurityOptions?: string[] | null;
  readonly Architecture?: string;
}

const FILTERS = ['name=apparmor', 'name=seccomp,profile=builtin', 'name=cgroupns'];

/** An engine that tells these in turn, and fails where there is an error among them. */
function seccompOf(answers: (Info | Error)[], configured: 'own' | 'engine' = 'own') {
  const lines: string[] = [];
  const logger = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
  let asked = 0;
  const info = async () => {
    const answer = answers[Math.min(asked++, answers.length - 1)];
    if (answer instanceof Error) throw answer;
    return { MemTotal: 1, Architecture: 'x86_64', ...answer };
  };
  const seccomp = new WorkerSeccomp(new DockerEngine({ info, modem: {} } as unknown as Docker), configured, logger);
  return { seccomp, lines, asked: () => asked };
}

describe('WorkerSeccomp', () => {
  it.each(['x86_64', 'aarch64'])('gives workers the manager’s own profile on %s', async (Architecture) => {
    const { seccomp, lines } = seccompOf([{ SecurityOptions: FILTERS, Architecture }]);
    expect(await seccomp.profile()).toBe(SECCOMP_PROFILE);
    expect(lines).toEqual([]);
  });

  it('leaves them the engine’s where that is configured', async () => {
    const { seccomp, lines } = seccompOf([{ SecurityOptions: FILTERS }], 'engine');
    expect(await seccomp.profile()).toBeUndefined();
    expect(lines).toEqual([]);
  });

  it.each([
    ['can’t filter', { SecurityOptions: ['name=apparmor'] }, 'own'],
    ['says nothing', { SecurityOptions: null }, 'own'],
    ['runs on another processor', { SecurityOptions: FILTERS, Architecture: 's390x' }, 'own'],
    ['is told to filter nothing', { SecurityOptions: ['name=seccomp,profile=unconfined'] }, 'engine'],
  ] as const)('gives none and warns where the engine %s', async (_, info, configured) => {
    const { seccomp, lines } = seccompOf([info as unknown as Info], configured);
    expect(await seccomp.profile()).toBeUndefined();
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/"why":"[^"]+/);
  });

  it('asks once, and again only after a failure', async () => {
    const failed = seccompOf([Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }), { SecurityOptions: [] }]);
    await expect(failed.seccomp.profile()).rejects.toThrow();
    await Promise.all([failed.seccomp.profile(), failed.seccomp.profile()]);
    await failed.seccomp.profile();
    expect(failed.asked()).toBe(2);
    expect(failed.lines).toHaveLength(1);
  });
});
