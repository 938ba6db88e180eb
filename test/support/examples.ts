import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const MARK = '@@ end of an example @@';

/** A part of a page's shell blocks, and what the page says that it prints. `…` stands for anything. */
export interface Example {
  readonly script: string;
  readonly shown?: string;
  readonly printed: string;
}

export interface Kind {
  /** What a block must hold to be run. */
  readonly uses: string;
  /** A comment that is what the commands before it print. */
  readonly shown: RegExp;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
}

/** Requests by curl. */
export const REQUESTS: Kind = { uses: 'curl ', shown: /^# (?=[{[])/ };

/** Runs a page's shell blocks (`sh`) of a kind, those that make requests, one after the other in one shell in `folder`. */
export async function runExamples(
  page: string,
  folder: string,
  edit: (script: string) => string,
  { uses, shown, env = process.env, timeoutMs = 60_000 }: Kind = REQUESTS,
): Promise<Example[]> {
  const text = await readFile(page, 'utf8');
  const blocks = [...text.matchAll(/^```sh\n(.*?)^```$/gms)]
    .map(([, block]) => block!)
    .filter((block) => block.includes(uses));
  const wanted: { script: string; shown?: string }[] = [];
  for (const block of blocks) {
    let script = '';
    for (const line of block.split('\n')) {
      const isShown = shown.test(line);
      if (isShown) wanted.push({ script, shown: line.slice(2) });
      script = isShown ? '' : `${script}${line}\n`;
    }
    if (script.trim() !== '') wanted.push({ script });
  }
  const whole = wanted.map(({ script }) => `${edit(script)}\necho; echo '${MARK}'\n`).join('');
  const { stdout } = await promisify(execFile)('bash', ['-uc', `curl() { command curl -sS "$@"; }\n${whole}`], {
    cwd: folder,
    env,
    timeout: timeoutMs,
  });
  const printed = stdout.split(MARK);
  return wanted.map((part, index) => ({ ...part, printed: printed[index]!.trim() }));
}

/** The lines of an example as a pattern. */
export function patternOf(shown: string): RegExp {
  return new RegExp(
    `${shown
      .split('…')
      .map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')}$`,
    's',
  );
}
