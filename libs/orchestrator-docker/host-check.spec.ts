import { describe, expect, it } from 'vitest';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal } from './engine-fault.js';
import { hostIsOpen, NoImageYet } from './host-check.js';

const PLACE = { image: 'worker', network: 'workers', gateway: '127.0.0.1', internal: false, allow: [] };
const METADATA = '169.254.169.254';
const NOBODY = '192.0.2.1';

/** One whose check ends with a status, or isn't possible; it notes which addresses were to be tried. */
function engineOf(outcome: number | Error, tried: string[][] = []): DockerEngine {
  const engine: Pick<DockerEngine, 'list' | 'runToEnd'> = {
    list: () => Promise.resolve([]),
    runToEnd: ({ Entrypoint }) => {
      tried.push((Entrypoint as string[]).slice(5));
      return outcome instanceof Error ? Promise.reject(outcome) : Promise.resolve(outcome);
    },
  };
  return engine as DockerEngine;
}

const check = (outcome: number | Error) => hostIsOpen(engineOf(outcome), PLACE, AbortSignal.timeout(5_000));

describe('hostIsOpen', () => {
  it('is content when all was refused', async () => {
    await expect(check(0)).resolves.toBeUndefined();
  });

  it.each([
    [1, /^workers reach this machine$/],
    [11, /to 169\.254\.169\.254:80 was made/],
    [12, /to 169\.254\.169\.254:80 was not refused at once/],
    [23, /to 192\.0\.2\.1:80 failed in another way/],
    [127, /no python3/],
    [99, /status 99/],
  ])('says what status %i means', async (status, message) => {
    await expect(check(status)).resolves.toMatch(message);
  });

  it('says so when the image has nothing to check with', async () => {
    const refusal = 'failed to create task: exec: "python3": executable file not found in $PATH: unknown';
    await expect(check(new EngineRefusal(400, refusal))).resolves.toMatch(/no python3/);
  });

  it('leaves the question open while the image has to be pulled', async () => {
    await expect(check(new EngineRefusal(404, 'No such image: worker'))).rejects.toThrow(NoImageYet);
  });

  it('tries no address that is allowed, and on a network with no way out only this machine', async () => {
    const tried: string[][] = [];
    const engine = engineOf(0, tried);
    const metadata = { family: 4, cidr: '169.254.0.0/16', port: undefined } as const;
    const places = [
      PLACE,
      { ...PLACE, allow: [metadata] },
      { ...PLACE, allow: [{ ...metadata, port: 443 }] },
      { ...PLACE, internal: true },
    ];
    for (const place of places) await hostIsOpen(engine, place, AbortSignal.timeout(5_000));
    expect(tried).toEqual([[METADATA, NOBODY], [NOBODY], [METADATA, NOBODY], []]);
  });
});
