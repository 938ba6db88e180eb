import { afterAll, beforeAll, expect, it } from 'vitest';
import { EXIT, EXIT_MEANINGS } from '../../apps/cli/src/failure.js';
import { readFile } from 'node:fs/promises';
import { describeOnProcesses } from '../support/engines.js';
import { patternOf, runExamples } from '../support/examples.js';
import { Stage } from '../support/stage.js';
import { InstalledCli } from './support/installed-cli.js';

const PAGE = 'docs/cli.md';

describeOnProcesses('the page of the command line', (engine) => {
  const stage = Stage.on(engine);
  let cli: InstalledCli;
  beforeAll(async () => (cli = await InstalledCli.install({ KEY: 'any', MANAGER: stage.manager.url })));
  afterAll(() => cli.remove());

  it('shows what its examples print', async () => {
    const kind = { uses: 'faas ', shown: /^# /, env: { ...cli.env, FAAS_URL: stage.manager.url }, timeoutMs: 110_000 };
    const installation = /^npm install .*$/gm;
    // What was printed a moment ago takes a moment to be in the log.
    const edit = (script: string) =>
      script
        .replaceAll(installation, '')
        .replaceAll('~/.config/fish/completions/', './')
        .replaceAll(/^(?=faas logs )/gm, 'until faas logs greeter --source handler | grep -q Ada; do :; done; ');
    const examples = await runExamples(PAGE, cli.folder, edit, kind);
    const checked = examples.filter(({ shown }) => shown !== undefined);
    expect(checked.length).toBeGreaterThan(14);
    for (const { shown, printed } of checked) expect(printed).toMatch(patternOf(shown!));
  });

  it('names each exit code as --help does', async () => {
    const { out } = await cli.run(['--help']);
    const page = (await readFile(PAGE, 'utf8')).replaceAll('`', '');
    for (const [kind, code] of Object.entries(EXIT)) {
      const meaning = EXIT_MEANINGS[kind as keyof typeof EXIT];
      expect(page).toContain(`| ${code} | ${meaning} |`);
      expect(out).toMatch(new RegExp(`^ +${code} +${meaning}$`, 'm'));
    }
  });
});
