import type { Command } from 'commander';
import type { GetFunctionStatisticsData, StatisticsDto } from '../client/index.js';
import { command, REF } from '../command.js';
import { answered, connect, SOON } from '../connection.js';
import { integer } from '../deploy/settings.js';

type Query = NonNullable<GetFunctionStatisticsData['query']>;
type Counts = Omit<StatisticsDto['steps'][number], 'at'>;

const HEAD = ['TIME', 'CALLS', 'ERRORS', 'CANCELLED', 'COLD STARTS', 'PER SECOND', 'P50 MS', 'P95 MS', 'P99 MS'];

export function addStats(program: Command): void {
  const made = command(program, 'stats', "show how a function's calls went, by the minute")
    .argument(...REF)
    .option('--window <time>', 'the last so many minutes, hours or days: 30m, 6h, 7d; an hour if left out')
    .option('--revision <n>', 'those of one revision', integer)
    .action(async (ref: string, { window, revision }: Query) => {
      const { client, api } = await connect(SOON);
      const query = { window, revision };
      const { data } = await answered(api.getFunctionStatistics({ client, path: { id: ref }, query }));
      const output = made.output();
      const rows = data.steps.map((step) => rowOf(step.at, step));
      output.show(data, () => output.table(HEAD, [...rows, rowOf('all', data)]));
    });
}

function rowOf(time: string, counts: Counts): string[] {
  const { calls, errors, cancelled, cold_starts: coldStarts, per_second: rate, p50_ms, p95_ms, p99_ms } = counts;
  return [
    time,
    ...[calls, errors, cancelled, coldStarts, rate, p50_ms, p95_ms, p99_ms].map((one) => String(one ?? '')),
  ];
}
