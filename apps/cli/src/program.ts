import { Command, CommanderError } from 'commander';
import { VERSION } from '#libs/config/version.js';
import { addInvoke } from './calls/invoke.command.js';
import { addCompletion } from './completion/completion.command.js';
import { addDeploy } from './deploy/deploy.command.js';
import { EXIT, EXIT_MEANINGS, Failure } from './failure.js';
import { addGet } from './functions/get.command.js';
import { addList } from './functions/list.command.js';
import { addRemove } from './functions/remove.command.js';
import { addHistory } from './history/history.command.js';
import { addStats } from './history/stats.command.js';
import { addLogin } from './login/login.command.js';
import { addLogs } from './logs/logs.command.js';
import { Output } from './output.js';
import { addRevisions } from './revisions/revisions.command.js';
import { addRollback } from './revisions/rollback.command.js';
import { addSchedules } from './schedules/schedules.command.js';
import { addSecrets } from './secrets/secrets.command.js';
import { addTraffic } from './traffic/traffic.command.js';

/** In the order of `faas --help`. */
const COMMANDS = [
  addLogin,
  addDeploy,
  addInvoke,
  addList,
  addGet,
  addLogs,
  addHistory,
  addStats,
  addRevisions,
  addRollback,
  addTraffic,
  addSchedules,
  addSecrets,
  addRemove,
  addCompletion,
];

export function createProgram(): Command {
  const program = new Command('faas')
    .description('Deploys, calls and watches functions of a service-faas manager.')
    .version(VERSION, '-V, --version')
    .exitOverride()
    // What is wrong is said in one place, below.
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', `\n${exitCodes()}\n\n${ENVIRONMENT}`);
  for (const add of COMMANDS) add(program);
  return program;
}

const ENVIRONMENT = `Environment:
  FAAS_URL      the manager; else the one of faas login, else http://127.0.0.1:8080
  FAAS_API_KEY  the key; else the one of faas login
  NO_COLOR      no colours`;

function exitCodes(): string {
  const kinds = Object.keys(EXIT) as (keyof typeof EXIT)[];
  const lines = kinds.map((kind) => `  ${String(EXIT[kind]).padEnd(5)} ${EXIT_MEANINGS[kind]}`);
  return ['Exit codes:', ...lines].join('\n');
}

/** What the process is to end with. */
export async function run(args: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? EXIT.ok);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok;
    // It was asked for nothing, and has shown what there is.
    if (error instanceof CommanderError && error.code === 'commander.help') return EXIT.usage;
    const failure = asFailure(error);
    // Also where nobody reads it any more.
    process.exitCode = EXIT[failure.kind];
    new Output(wantsJson(args)).fail(failure);
    return EXIT[failure.kind];
  }
}

function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof CommanderError) {
    const message = error.message.replace(/^error: /, '');
    return new Failure('usage', message, undefined, 'faas --help shows all commands, faas COMMAND --help one.');
  }
  return new Failure('unexpected', error instanceof Error ? (error.stack ?? error.message) : String(error));
}

/** Also where the rest could not be understood. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end === -1 ? args : args.slice(0, end)).includes('--json');
}
