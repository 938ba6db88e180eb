import { EventEmitter } from 'node:events';

export interface LogLine {
  /** RFC 3339 with nanoseconds, as the kubelet writes it. */
  readonly at: string;
  readonly text: string;
}

const KEPT_LINES = 20_000;
const MESSAGE_LINES = 80;
const MESSAGE_BYTES = 2048;

/** What one run of a container wrote, both streams in one, as the log of a pod shows it. */
export class ContainerLog {
  private lines: LogLine[] = [];
  private readonly partial: Record<'stdout' | 'stderr', string> = { stdout: '', stderr: '' };
  private readonly events = new EventEmitter().setMaxListeners(0);
  ended = false;

  write(stream: 'stdout' | 'stderr', chunk: string): void {
    const parts = (this.partial[stream] + chunk).split('\n');
    this.partial[stream] = parts.pop() ?? '';
    for (const text of parts) this.add(text);
  }

  end(): void {
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.partial[stream] !== '') this.add(this.partial[stream]);
      this.partial[stream] = '';
    }
    this.ended = true;
    this.events.emit('end');
  }

  tail(count: number = Infinity): LogLine[] {
    return count === Infinity ? [...this.lines] : this.lines.slice(Math.max(0, this.lines.length - count));
  }

  /** Calls back for every later line, and once when there will be none. Answers how to stop it. */
  follow(onLine: (line: LogLine) => void, onEnd: () => void): () => void {
    this.events.on('line', onLine).once('end', onEnd);
    return () => this.events.off('line', onLine).off('end', onEnd);
  }

  /** What `FallbackToLogsOnError` makes of it. */
  terminationMessage(): string {
    const text = this.tail(MESSAGE_LINES)
      .map((line) => `${line.text}\n`)
      .join('');
    return Buffer.from(text).subarray(-MESSAGE_BYTES).toString('utf8');
  }

  private add(text: string): void {
    const line = { at: new Date().toISOString().replace('Z', '000000Z'), text };
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines = this.lines.slice(-KEPT_LINES / 2);
    this.events.emit('line', line);
  }
}
