import { setTimeout as delay } from 'node:timers/promises';
import { converse } from '../../support/http.js';

export interface SingleAnswer {
  readonly status: number;
  /** The problem's, where it is one. */
  readonly code: string | undefined;
  readonly body: Buffer;
}

/**
 * One call on a connection of its own, read as bytes: a second answer on it would be seen. Answers what is wrong with
 * how it was answered, or the answer.
 */
export async function callOnce(port: number, id: string, payload: string, limitMs: number) {
  const body = JSON.stringify({ payload });
  const head = [
    `POST /functions/${id}/execute HTTP/1.1`,
    'Host: localhost',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  const { socket, received } = converse(port, `${head.join('\r\n')}\r\n\r\n${body}`);
  const patience = new AbortController();
  const late = delay(limitMs, undefined, { signal: patience.signal }).catch(() => undefined);
  const text = await Promise.race([received, late]);
  patience.abort();
  socket.destroy();
  if (text === undefined) return `LOST: no answer within ${limitMs} ms`;
  return singleAnswerIn(text);
}

function singleAnswerIn(text: string): SingleAnswer | string {
  const answers = text.split(/(?=^HTTP\/1\.1 \d{3} )/m).filter((part) => part !== '');
  if (answers.length > 1) return `ANSWERED TWICE: ${text}`;
  const [head = '', ...rest] = text.split('\r\n\r\n');
  const body = rest.join('\r\n\r\n');
  const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1]);
  if (Buffer.byteLength(body) !== length) return `LOST: half an answer: ${JSON.stringify(text.slice(0, 400))}`;
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  const code = status === 200 ? undefined : (JSON.parse(body) as { code?: string }).code;
  return { status, code, body: Buffer.from(body) };
}
