import { Command, InvalidArgumentError } from 'commander';
import { Output } from './output.js';

/** A command that takes what all of them take. */
export class CliCommand extends Command {
  output(): Output {
    return new Output(this.opts<{ json?: boolean }>().json === true);
  }
}

/** A path with nothing, "." or ".." in the place of a name leads elsewhere. */
export function isName(text: string): boolean {
  return !/^\.{0,2}$/.test(text);
}

export function nameIn(text: string): string {
  if (isName(text)) return text;
  throw new InvalidArgumentError('It must be a name.');
}

/** The argument of commands about one function. */
export const REF = ['<ref>', "the function's name or id", nameIn] as const;

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
