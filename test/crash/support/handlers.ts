import { randomBytes } from 'node:crypto';
import type { Random } from './random.js';

/**
 * How a function's replicas change by themselves: `steady` ones never do, `sleepy` ones lose theirs as soon as nobody
 * calls them, `elastic` ones get a second one when a few call them at once, and lose it again.
 */
export type Kind = 'steady' | 'sleepy' | 'elastic';

/** How soon a sleepy function falls asleep. */
export const IDLE_MS = 300;
export const MOST_REPLICAS = { steady: 1, sleepy: 1, elastic: 2 } satisfies Record<Kind, number>;

const SCALING: Record<Kind, Readonly<Record<string, string>>> = {
  steady: {},
  sleepy: { idle_timeout_ms: String(IDLE_MS), max_replicas: String(MOST_REPLICAS.sleepy) },
  elastic: { concurrency: '1', max_replicas: String(MOST_REPLICAS.elastic) },
};

/** A handler that can't be taken for any other: its answers and its file bear its token. */
export interface Handler {
  readonly token: string;
  readonly kind: Kind;
  readonly functionName: string;
  readonly code: Buffer;
  /** Fields of its upload. */
  readonly scaling: Readonly<Record<string, string>>;
}

/** What a handler says of itself: who runs it, told apart from every other worker there ever was, and as which function. */
export interface Answer {
  readonly token: string;
  readonly echo: string;
  readonly worker: string;
  readonly function: string;
}

/** @param witness a folder in which it notes each of its calls, and once more each that it gets again */
export function newHandler(random: Random, kind: Kind = 'steady', witness?: string): Handler {
  // Unique, not replayed: a replay must not mistake what an earlier run left behind for its own.
  const token = randomBytes(9).toString('hex');
  const isAsync = random.chance(0.5);
  const lines = [
    `# ${'é€😀 '.repeat(random.integer(0, 400))}`,
    `import ${isAsync ? 'asyncio' : 'time'}`,
    'import os',
    `TOKEN = "${token}"`,
    'def worker():',
    '    parent = os.getppid()',
    '    with open(f"/proc/{parent}/stat") as file:',
    '        started = file.read().rpartition(")")[2].split()[19]',
    '    return f"{os.uname().nodename} {parent} {started}"',
    ...(witness === undefined ? [] : noting(witness)),
    `${isAsync ? 'async ' : ''}def handle(payload):`,
    '    nap, _, text = payload.partition("|")',
    ...(witness === undefined ? [] : ['    note(text)']),
    `    ${isAsync ? 'await asyncio.sleep' : 'time.sleep'}(float(nap))`,
    '    return {"token": TOKEN, "echo": text, "worker": worker(), "function": os.environ.get("FAAS_FUNCTION")}',
    '',
  ];
  const code = Buffer.from(lines.join(random.chance(0.2) ? '\r\n' : '\n'));
  return { token, kind, functionName: 'handle', code, scaling: SCALING[kind] };
}

function noting(witness: string): string[] {
  return [
    'def note(name):',
    '    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY',
    '    try:',
    `        os.close(os.open(os.path.join(${JSON.stringify(witness)}, name), flags))`,
    '    except FileExistsError:',
    '        note(name + ".again")',
  ];
}

export function tokenIn(code: Buffer): string | undefined {
  return /^TOKEN = "([0-9a-f]+)"/m.exec(code.toString('utf8'))?.[1];
}

export function payloadOf(napSeconds: number, text: string): string {
  return `${napSeconds}|${text}`;
}

/** A body as this handler's answer to this text; undefined when it is anything else. */
export function answerOf(handler: Handler, text: string, body: Buffer): Answer | undefined {
  try {
    const { result } = JSON.parse(body.toString('utf8')) as { result?: Answer };
    return result?.token === handler.token && result.echo === text ? result : undefined;
  } catch {
    return undefined;
  }
}
