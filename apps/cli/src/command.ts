import { Command } from 'commander';
import { Output } from './output.js';

/** A command that takes what all of them take. */
export class CliCommand extends Command {
  output(): Output {
    return new Output(this.opts<{ json?: boolean }>().json === true);
  }
}

export function command(
  parent: Command,
  name: string,
  summary: string,
  json = 'the result as JSON on stdout',
): CliCommand {
  const made = new CliCommand(name).summary(summary).description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`);
  made.option('--json', json).copyInheritedSettings(parent);
  parent.addCommand(made);
  return made;
}
