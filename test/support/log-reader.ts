import { type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http';
import { vi } from 'vitest';

export interface LogRecord {
  readonly time: string;
  readonly replica: string;
  readonly revision: number | null;
  readonly source: string;
  readonly stream: string | null;
  readonly request_id: string | null;
  readonly line: string;
}

/** A client that follows a log on a connection of its own. */
export class LogReader {
  /** All that was read. */
  text = '';
  readonly ended: Promise<void>;

  private constructor(private readonly answer: IncomingMessage) {
    answer.setEncoding('utf8');
    this.ended = new Promise((resolve) => answer.once('close', resolve));
  }

  /** Resolves once the answer has begun. */
  static open(url: string, headers: OutgoingHttpHeaders = {}): Promise<LogReader> {
    return new Promise((resolve, reject) => {
      request(url, { headers, agent: false }, (answer) => resolve(new LogReader(answer)))
        .on('error', reject)
        .end();
    });
  }

  get status(): number {
    return this.answer.statusCode ?? 0;
  }

  get headers(): IncomingMessage['headers'] {
    return this.answer.headers;
  }

  /** Reads what comes; nothing is read before. */
  read(): this {
    this.answer.on('data', (chunk: string) => (this.text += chunk)).on('error', () => undefined);
    return this;
  }

  get records(): (LogRecord | { readonly missed: number })[] {
    const whole = this.text.slice(0, this.text.lastIndexOf('\n') + 1).split('\n');
    return whole.filter(Boolean).map((line) => JSON.parse(line) as LogRecord);
  }

  async until(what: string, timeout = 10_000): Promise<void> {
    await vi.waitFor(
      () => {
        if (!this.text.includes(what)) throw new Error(`There is no ${what} in ${this.text.slice(-2_000)}`);
      },
      { timeout, interval: 10 },
    );
  }

  hangUp(): void {
    this.answer.destroy();
  }
}
