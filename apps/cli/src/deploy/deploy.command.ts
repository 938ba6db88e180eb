import type { Command } from 'commander';
import { setInterval as every } from 'node:timers/promises';
import { connect, type Connection, SOON } from '../connection.js';
import { command } from '../command.js';
import { Failure } from '../failure.js';
import type { Output } from '../output.js';
import { deploy, type Deployed } from './deploy.js';
import { describeFault } from './python-fault.js';
import { type DeployOptions, planOf } from './plan.js';
import { withProgress } from './progress.js';
import { addSettings, HISTORY, INVOCATION_DEFAULTS, integer, pair, SETTINGS } from './settings.js';

/** A manager gives an upload up after READY_TIMEOUT_MS, a minute unless configured; packages may have to be installed. */
const WAIT_MS = 15 * 60_000;
const LOOK_MS = 500;

export function addDeploy(program: Command): void {
  const made = command(program, 'deploy', 'add a function, or update the one of this name')
    .argument('[path]', 'a Python file, a faas.yaml, or a folder with one; this folder if left out')
    .option('-n, --name <name>', "the function's name; the file's if left out")
    .option('--handler <name>', 'the callable inside the file; "handle" if left out')
    .option('--description <text>', 'for people')
    .option('--public', 'everybody may call it over HTTP (/f/…) without a key')
    .option('--no-public', 'nobody may without one')
    .option('-l, --label <key=value>', 'a label; may be repeated', pair)
    .option('-m, --message <text>', 'why there is this revision')
    .option('--wait-ms <n>', 'how long to wait for it', integer, WAIT_MS);
  for (const settings of [SETTINGS, INVOCATION_DEFAULTS, HISTORY]) addSettings(made, settings);
  made.action(async (path: string | undefined, options: DeployOptions & { waitMs: number }) => {
    await run(path, options, made.output());
  });
}

async function run(
  path: string | undefined,
  options: DeployOptions & { waitMs: number },
  output: Output,
): Promise<void> {
  const plan = await planOf(path, options);
  const connection = await connect({ ms: options.waitMs });
  const began = performance.now();
  try {
    const deployed = await withProgress(`Deploying ${plan.name} to ${connection.url}`, async (say) => {
      const watching = new AbortController();
      if (say !== undefined) void watch(plan.name, say, watching.signal);
      return deploy(connection, plan).finally(() => watching.abort());
    });
    show(output, connection, deployed, performance.now() - began);
  } catch (error) {
    if (error instanceof Failure && error.problem !== undefined) describeFault(output, error.problem, plan);
    throw error;
  }
}

/** Says what the manager says of the function while it is on its way. */
async function watch(name: string, say: (text: string) => void, signal: AbortSignal): Promise<void> {
  const { client, api } = await connect(SOON);
  try {
    for await (const _ of every(LOOK_MS, undefined, { signal, ref: false })) {
      const { data } = await api.getFunction({ client, path: { id: name }, signal });
      say(data?.conditions.find(({ status }) => !status)?.message ?? '');
    }
  } catch {
    // It is decoration: the deployment's own answer says what is wrong.
  }
}

function show(output: Output, { url, hasKey }: Connection, deployed: Deployed, ms: number): void {
  const { action, function: made, revision, serving } = deployed;
  const called = `${url}/functions/${made.name}/execute`;
  const key = hasKey ? `-H "X-Api-Key: $FAAS_API_KEY" ` : '';
  const curl = `curl ${key}-d '{"payload": "hello"}' ${called}`;
  const state = serving ? 'serves' : `is ready, without calls until faas traffic ${made.name} gives it some,`;
  output.show({ ...deployed, url: called, curl }, () =>
    [
      `${output.paint('green', '✓')} ${made.name} (${made.id}): ${action}, revision ${revision} ${state} after ${(ms / 1000).toFixed(1)} s`,
      `  URL   ${output.paint('cyan', called)}`,
      `  Call  ${curl}`,
    ].join('\n'),
  );
}
