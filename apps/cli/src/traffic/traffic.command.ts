import { type Command, InvalidArgumentError } from 'commander';
import type { SetTrafficDto, TrafficDto } from '../client/index.js';
import { command, REF } from '../command.js';
import { answered, connect, SOON } from '../connection.js';
import { withProgress } from '../deploy/progress.js';
import { integer } from '../deploy/settings.js';
import { Failure } from '../failure.js';
import type { Output } from '../output.js';

type Target = NonNullable<SetTrafficDto['targets']>[number];

/** All workers of a revision that is given calls must be ready first. */
const WAIT_MS = 15 * 60_000;
const HEAD = ['REVISION', 'PERCENT', 'TAG', 'STATUS', 'REPLICAS'];

export function addTraffic(program: Command): void {
  const made = command(program, 'traffic', "show which revisions have a function's calls, or divide them")
    .argument(...REF)
    .argument('[division...]', 'auto, or REVISION=PERCENT[:TAG] for each revision, such as 3=90 4=10:canary', collect)
    .option('--wait-ms <n>', 'how long to wait for it', integer, WAIT_MS)
    .action(async (ref: string, division: readonly (Target | 'auto')[], { waitMs }: { waitMs: number }) => {
      const traffic = division.length === 0 ? await read(ref) : await divide(ref, trafficOf(division), waitMs);
      const output = made.output();
      output.show(traffic, () => described(output, traffic));
    });
}

async function read(ref: string): Promise<TrafficDto> {
  const { client, api } = await connect(SOON);
  return (await answered(api.getTraffic({ client, path: { id: ref } }))).data;
}

async function divide(ref: string, body: SetTrafficDto, ms: number): Promise<TrafficDto> {
  const { client, api } = await connect({ ms });
  const asking = () => answered(api.setTraffic({ client, path: { id: ref }, body }));
  return (await withProgress(`Dividing the calls of ${ref}`, asking)).data;
}

function collect(text: string, former: readonly (Target | 'auto')[] = []): readonly (Target | 'auto')[] {
  return [...former, text === 'auto' ? text : targetOf(text)];
}

export function targetOf(text: string): Target {
  const [, revision, percent, tag] = /^(\d{1,9})=(\d{1,3})(?::(.+))?$/.exec(text) ?? [];
  if (revision === undefined) throw new InvalidArgumentError('It must be auto or REVISION=PERCENT[:TAG].');
  return { revision: Number(revision), percent: Number(percent), ...(tag !== undefined && { tag }) };
}

export function trafficOf(division: readonly (Target | 'auto')[]): SetTrafficDto {
  const targets = division.filter((one) => one !== 'auto');
  if (targets.length === division.length) return { targets };
  if (division.length === 1) return { mode: 'auto' };
  throw new Failure('usage', 'Say auto, or name revisions, not both.');
}

function described(output: Output, { mode, targets, pending }: TrafficDto): string {
  const rows = targets.map(({ revision, percent, tag, status, replicas, ready_replicas }) => [
    String(revision),
    String(percent),
    tag ?? '',
    status,
    `${ready_replicas} of ${replicas}`,
  ]);
  const table = output.table(HEAD, rows);
  const note = mode === 'auto' ? `${table}\nauto: the newest revision has all calls.` : table;
  if (pending === null) return note;
  const asked = pending.targets.map(({ revision, percent }) => `${revision}=${percent}`).join(' ');
  const why = pending.error === null ? 'is on its way' : `was given up: ${output.plain(pending.error.message)}`;
  return `${note}\n${output.paint('yellow', `${asked || 'auto'} ${why}`)}`;
}
