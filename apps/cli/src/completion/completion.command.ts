import { Argument, type Command } from 'commander';
import { CliCommand, command } from '../command.js';
import { connect } from '../connection.js';
import { allFunctions } from '../functions/list.command.js';
import { candidatesOf, starting } from './candidates.js';

/** Whoever presses Tab waits no longer. */
const BOUNDS = { ms: 1_500 };

/** Each asks this program what may follow; where that is nothing, files are offered. */
const SCRIPTS = {
  bash: `_faas() {
  local IFS=$'\\n'
  COMPREPLY=($(faas complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -o bashdefault -F _faas faas
`,
  zsh: `#compdef faas
_faas() {
  local -a found
  found=("\${(@f)$(faas complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${found[*]}" ]]; then compadd -a found; else _files; fi
}
compdef _faas faas
`,
  fish: `function __faas
  set -l words (commandline -opc) (commandline -ct)
  faas complete -- $words[2..-1] 2>/dev/null; or __fish_complete_path (commandline -ct)
end
complete -c faas -f -a '(__faas)'
`,
};
type Shell = keyof typeof SCRIPTS;

export function addCompletion(program: Command): void {
  const made = command(program, 'completion', "print a shell's completion script")
    .addArgument(new Argument('<shell>').choices(Object.keys(SCRIPTS)))
    .addHelpText('after', '\nIn ~/.bashrc:  eval "$(faas completion bash)"')
    .action((shell: Shell) => made.output().show({ script: SCRIPTS[shell] }, () => SCRIPTS[shell]));
  const complete = new CliCommand('complete').argument('[words...]').copyInheritedSettings(program);
  program.addCommand(complete, { hidden: true });
  complete.action(async (words: string[]) => {
    const found = candidatesOf(program, words);
    const fitting = 'words' in found ? found.words : starting(words.at(-1) ?? '', await functionNames()).words;
    if (fitting.length > 0) complete.output().show(fitting, () => fitting.join('\n'));
    else process.exitCode = 1;
  });
}

async function functionNames(): Promise<string[]> {
  try {
    return (await allFunctions(await connect(BOUNDS))).map(({ name }) => name);
  } catch {
    return [];
  }
}
