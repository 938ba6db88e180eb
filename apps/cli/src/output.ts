import { escapeControls } from '#libs/observability/escape-controls.js';
import { EXIT, type Failure } from './failure.js';
import { tableOf } from './table.js';

const CELL = 120;
const COLOURS = { red: 31, green: 32, yellow: 33, cyan: 36, dim: 2, bold: 1 } as const;
type Colour = keyof typeof COLOURS;
type Stream = NodeJS.WriteStream;

/** Results go to stdout, as text or as one JSON document; all else goes to stderr. */
export class Output {
  constructor(
    readonly json: boolean,
    private readonly out: Stream = process.stdout,
    private readonly err: Stream = process.stderr,
  ) {}

  get isTerminal(): boolean {
    return this.out.isTTY;
  }

  /** The one result of a command. */
  show(value: unknown, human: () => string): void {
    if (this.json) this.write(JSON.stringify(value, null, 2));
    else this.write(human());
  }

  /** One result of many: a line of its own. */
  showLine(value: unknown, human: () => string): boolean {
    return this.write(this.json ? JSON.stringify(value) : human());
  }

  /** For what may go on for ever: its reader has seen enough once it goes. */
  endWithReader(): void {
    this.out.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit();
    });
  }

  /** Resolves once a reader that is slower than us has room again. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.out.once('drain', resolve);
      this.out.once('close', resolve);
    });
  }

  note(text: string): void {
    this.err.write(`${text}\n`);
  }

  table(head: readonly string[], rows: readonly (readonly string[])[]): string {
    const [first = '', ...rest] = tableOf(
      head,
      rows.map((row) => row.map((cell) => this.plain(cell))),
    );
    return [this.paint('bold', first), ...rest].join('\n');
  }

  /** What one thing is: a line for each field that has a text. */
  fields(all: readonly (readonly [string, string])[]): string {
    const shown = all.filter(([, text]) => text !== '');
    const width = Math.max(...shown.map(([title]) => title.length));
    return shown.map(([title, text]) => `${title.padEnd(width)}  ${text}`).join('\n');
  }

  /** Text of others on one line, fit for a terminal. */
  plain(text: string, most = CELL): string {
    return escapeControls(text, most);
  }

  paint(colour: Colour, text: string): string {
    return painted(this.out, colour, text);
  }

  paintNote(colour: Colour, text: string): string {
    return painted(this.err, colour, text);
  }

  fail(failure: Failure): void {
    const { message, kind, problem, hint } = failure;
    const about =
      problem === undefined ? '' : this.paintNote('dim', ` (${problem.code}, request ${problem.request_id})`);
    this.note(`${this.paintNote('red', 'error:')} ${printable(message)}${about}`);
    if (hint !== undefined) this.note(hint);
    const error = { code: problem?.code ?? kind, kind, exit_code: EXIT[kind], detail: message, ...problem };
    if (this.json) this.write(JSON.stringify({ error }, null, 2));
  }

  private write(text: string): boolean {
    return this.out.write(text.endsWith('\n') || text === '' ? text : `${text}\n`);
  }
}

/** Text of others that may have several lines, fit for a terminal. */
export function printable(text: string): string {
  return text
    .split('\n')
    .map((line) =>
      line
        .split('\t')
        .map((part) => escapeControls(part, Number.MAX_SAFE_INTEGER))
        .join('\t'),
    )
    .join('\n');
}

function painted(stream: Stream, colour: Colour, text: string): string {
  const { NO_COLOR, TERM } = process.env;
  const isPlain = !stream.isTTY || (NO_COLOR ?? '') !== '' || TERM === 'dumb' || text === '';
  return isPlain ? text : `\u001b[${COLOURS[colour]}m${text}\u001b[0m`;
}
