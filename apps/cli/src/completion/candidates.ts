import type { Command } from 'commander';

/** What may stand in the place of the last word. */
export type Candidates = { readonly words: readonly string[] } | { readonly ask: 'functions' };

/** `words` are those after `faas`, the last one as far as it is written. */
export function candidatesOf(program: Command, words: readonly string[]): Candidates {
  const former = words.slice(0, -1);
  const last = words.at(-1) ?? '';
  const [name, ...rest] = former;
  if (name === undefined) return starting(last, [...namesOf(program), '--help', '--version']);
  const chosen = program.commands.find((one) => one.name() === name || one.aliases().includes(name));
  if (chosen === undefined) return { words: [] };
  const asking = optionThatWaits(chosen, rest);
  if (asking !== undefined) return starting(last, asking.argChoices ?? []);
  if (last.startsWith('-')) return starting(last, flagsOf(chosen));
  const argument = chosen.registeredArguments[argumentsIn(chosen, rest)];
  if (argument?.name() === 'ref') return { ask: 'functions' };
  return starting(last, argument?.argChoices ?? []);
}

export function starting(last: string, words: readonly string[]): { words: string[] } {
  return { words: words.filter((word) => word.startsWith(last)) };
}

function namesOf(program: Command): string[] {
  return program
    .createHelp()
    .visibleCommands(program)
    .map((one) => one.name());
}

function flagsOf(chosen: Command): string[] {
  return chosen
    .createHelp()
    .visibleOptions(chosen)
    .flatMap(({ long }) => (long === undefined || long === null ? [] : [long]));
}

/** The option before the last word whose value that is. */
function optionThatWaits(chosen: Command, words: readonly string[]): Command['options'][number] | undefined {
  const flag = words.at(-1);
  if (flag === undefined) return undefined;
  return chosen.options.find((one) => one.required && (one.long === flag || one.short === flag));
}

/** How many arguments the words are, without options and their values. */
function argumentsIn(chosen: Command, words: readonly string[]): number {
  return words.filter(
    (word, index) => !word.startsWith('-') && optionThatWaits(chosen, words.slice(0, index)) === undefined,
  ).length;
}
