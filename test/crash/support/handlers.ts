import { randomBytes } from 'node:crypto';
import type { Random } from './random.js';

/** A handler that can't be taken for any other: its answers and its file bear its token. */
export interface Handler {
  readonly token: string;
  readonly functionName: string;
  readonly code: Buffer;
}

export function newHandler(random: Random): Handler {
  // Unique, not replayed: a replay must not mistake what an earlier run left behind for its own.
  const token = randomBytes(9).toString('hex');
  const isAsync = random.chance(0.5);
  const lines = [
    `# ${'é€😀 '.repeat(random.integer(0, 400))}`,
    `import ${isAsync ? 'asyncio' : 'time'}`,
    `TOKEN = "${token}"`,
    `${isAsync ? 'async ' : ''}def handle(payload):`,
    '    nap, _, text = payload.partition("|")',
    `    ${isAsync ? 'await asyncio.sleep' : 'time.sleep'}(float(nap))`,
    '    return {"token": TOKEN, "echo": text}',
    '',
  ];
  return { token, functionName: 'handle', code: Buffer.from(lines.join(random.chance(0.2) ? '\r\n' : '\n')) };
}

export function tokenIn(code: Buffer): string | undefined {
  return /^TOKEN = "([0-9a-f]+)"/m.exec(code.toString('utf8'))?.[1];
}

export function payloadOf(napSeconds: number, text: string): string {
  return `${napSeconds}|${text}`;
}

/** Whether an answer's body is this handler's answer to this text, and nobody else's. */
export function isAnswerOf(handler: Handler, text: string, body: Buffer): boolean {
  try {
    const { result } = JSON.parse(body.toString('utf8')) as { result?: { token?: unknown; echo?: unknown } };
    return result?.token === handler.token && result.echo === text;
  } catch {
    return false;
  }
}
