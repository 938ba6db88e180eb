import { Argument, type Command, Option } from 'commander';
import { payloadOf } from '../calls/invoke.command.js';
import type { ScheduleDto, SetScheduleDto } from '../client/index.js';
import { command, nameIn, REF } from '../command.js';
import { answered, connect, SOON } from '../connection.js';
import { addSettings, INVOCATION_DEFAULTS, type InvocationDefaults, integer, settingsOf } from '../deploy/settings.js';
import { Failure } from '../failure.js';
import type { Output } from '../output.js';

const ACTIONS = ['show', 'set', 'remove'] as const;
type Action = (typeof ACTIONS)[number];
const HEAD = ['SCHEDULE', 'WHEN', 'STATUS', 'NEXT', 'FIRED', 'MISSED'];
const RUNS_HEAD = ['TIME', 'STATUS', 'INVOCATION'];

interface Options {
  readonly cron?: string;
  readonly intervalMs?: number;
  readonly timezone?: string;
  readonly payload?: string;
  readonly file?: string;
  readonly overlap?: SetScheduleDto['overlap'];
  readonly catchUpMs?: number;
  readonly jitterMs?: number;
  readonly pauseAfterFailures?: number;
  readonly priority?: SetScheduleDto['priority'];
  readonly revision?: number;
  readonly tag?: string;
  readonly disabled?: boolean;
  readonly [setting: string]: unknown;
}

export function addSchedules(program: Command): void {
  const made = command(program, 'schedules', "list a function's schedules, show one, set one, or remove one")
    .argument(...REF)
    .addArgument(new Argument('[action]', 'show, set or remove; the list if left out').choices(ACTIONS))
    .argument('[name]', "the schedule's name", nameIn)
    .option('--cron <expression>', 'set: when, such as "0 3 * * *" or @daily')
    .option('--interval-ms <n>', 'set: or how far apart', integer)
    .option('--timezone <name>', 'set: of the expression, such as Europe/Berlin')
    .option('--payload <text>', 'set: what the handler gets; - for stdin')
    .option('--file <path>', 'set: or a file with it')
    .addOption(
      new Option('--overlap <how>', 'set: while an earlier call runs').choices(['skip', 'queue', 'allow'] as const),
    )
    .option('--catch-up-ms <n>', 'set: how late a missed time is made up for', integer)
    .option('--jitter-ms <n>', 'set: how much later a call may be made', integer)
    .option('--pause-after-failures <n>', 'set: pause after so many failures in a row', integer)
    .option('--revision <n>', 'set: the revision that runs the calls', integer)
    .option('--tag <tag>', 'set: or its tag')
    .addOption(
      new Option('--priority <level>', "set: among the function's calls").choices(['low', 'normal', 'high'] as const),
    )
    .option('--disabled', 'set: it rests until it is set without this');
  addSettings(
    made,
    INVOCATION_DEFAULTS.map((setting) => ({ ...setting, what: `set: ${setting.what}` })),
  ).action(async (ref: string, action: Action | undefined, name: string | undefined, options: Options) => {
    const output = made.output();
    if (action === undefined) return list(ref, output);
    if (name === undefined) throw new Failure('usage', `Say which schedule: faas schedules ${ref} ${action} NAME.`);
    switch (action) {
      case 'show':
        return show(ref, name, output);
      case 'set':
        return set(ref, name, options, output);
      case 'remove':
        return remove(ref, name, output);
    }
  });
}

async function list(ref: string, output: Output): Promise<void> {
  const { client, api } = await connect(SOON);
  const all: ScheduleDto[] = [];
  for (let hasMore = true; hasMore;) {
    const query = { after: all.at(-1)?.name };
    const { data, response } = await answered(api.listSchedules({ client, path: { id: ref }, query }));
    all.push(...data);
    hasMore = response.headers.has('link');
  }
  output.show(all, () => output.table(HEAD, all.map(rowOf)));
}

async function show(ref: string, name: string, output: Output): Promise<void> {
  const { client, api } = await connect(SOON);
  const { data } = await answered(api.getSchedule({ client, path: { id: ref, name } }));
  output.show(data, () => described(data, output));
}

async function set(ref: string, name: string, options: Options, output: Output): Promise<void> {
  const body = await bodyOf(options);
  const { client, api } = await connect(SOON);
  const { data, response } = await answered(api.putSchedule({ client, path: { id: ref, name }, body }));
  const what = response.status === 201 ? 'is made' : 'is set';
  const [next] = data.next_times;
  const when = next === undefined ? 'it rests' : `next at ${next}`;
  output.show(data, () => `${output.paint('green', '✓')} ${name} ${what}, ${when}`);
}

async function remove(ref: string, name: string, output: Output): Promise<void> {
  const { client, api } = await connect(SOON);
  await answered(api.removeSchedule({ client, path: { id: ref, name } }));
  output.show({ name, removed: true }, () => `${output.paint('green', '✓')} ${name} is removed`);
}

async function bodyOf(options: Options): Promise<SetScheduleDto> {
  const payload = await payloadOf(options.payload, options.file);
  return {
    cron: options.cron,
    interval_ms: options.intervalMs,
    timezone: options.timezone,
    payload,
    overlap: options.overlap,
    catch_up_ms: options.catchUpMs,
    jitter_ms: options.jitterMs,
    pause_after_failures: options.pauseAfterFailures,
    revision: options.revision,
    tag: options.tag,
    priority: options.priority,
    ...settingsOf<InvocationDefaults>(options, INVOCATION_DEFAULTS),
    enabled: options.disabled !== true,
  };
}

function rowOf({ name, cron, interval_ms, timezone, status, next_times, fired, missed }: ScheduleDto): string[] {
  const when = cron === null ? `every ${interval_ms} ms` : `${cron} ${timezone}`;
  return [name, when, status, next_times[0] ?? '', String(fired), String(missed.count)];
}

function described(schedule: ScheduleDto, output: Output): string {
  const { paused, missed, next_times, last_runs = [] } = schedule;
  const runs = last_runs.map(({ scheduled_for, status, invocation_id }) => [
    scheduled_for,
    status ?? '',
    invocation_id,
  ]);
  const lines = [output.table(HEAD, [rowOf(schedule)])];
  if (paused !== null) lines.push(output.paint('yellow', output.plain(paused.reason)));
  if (missed.last_reason !== null) lines.push(`missed ${missed.last_scheduled_for}: ${missed.last_reason}`);
  if (next_times.length > 0) lines.push(`next: ${next_times.join(', ')}`);
  if (runs.length > 0) lines.push(output.table(RUNS_HEAD, runs));
  return lines.join('\n');
}
