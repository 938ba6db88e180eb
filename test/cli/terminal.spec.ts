import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { freePort } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { InstalledCli } from './support/installed-cli.js';

const CTRL_C = '\u0003';
const CODE = 'def handle(payload):\n    print("got", payload)\n    return payload\n';

describeOnProcesses('the command line in a terminal', (engine) => {
  const stage = Stage.on(engine);
  let cli: InstalledCli;
  beforeAll(async () => {
    cli = await InstalledCli.install({ FAAS_URL: stage.manager.url });
    await writeFile(join(cli.folder, 'talk.py'), CODE);
    await writeFile(join(cli.folder, 'broken.py'), 'x = 1\ny = x.nothing\n\ndef handle(payload):\n    return 1\n');
  });
  afterAll(() => cli.remove());

  it('shows progress while it deploys, and leaves URL and curl', async () => {
    const terminal = cli.inTerminal('deploy', 'talk.py');
    expect(await terminal.code()).toBe(0);
    expect(terminal.marked).toMatch(/\r\^\[\[K⠋ Deploying talk to http\S+ … 0\.0 s/);
    // The last of it is what stays on the screen.
    expect(terminal.marked.split('\r^[[K').at(-1)).toMatch(
      /^\^\[\[32m✓\^\[\[0m talk \(\w+\): added, .*\r\n {2}URL {3}\S+\/functions\/talk\/execute\S*\r\n {2}Call {2}curl .*\r\n$/,
    );
  });

  it('shows the line at fault of the file that was deployed', async () => {
    const terminal = cli.inTerminal('deploy', 'broken.py');
    expect(await terminal.code()).toBe(6);
    expect(terminal.shown).toContain('File "broken.py", line 2, in <module>');
    expect(terminal.shown).toContain('\u001b[31m> 2 | y = x.nothing\u001b[0m');
    expect(terminal.marked).toMatch(/error:\^\[\[0m AttributeError: 'int' object has no attribute 'nothing'/);
  });

  it('lets nothing that a function answers steer the terminal', async () => {
    const terminal = cli.inTerminal('invoke', 'talk', '\u001b]0;title\u0007two\nlines');
    expect(await terminal.code()).toBe(0);
    expect(terminal.shown).toBe('\\u001b]0;title\\u0007two\r\nlines\r\n');
  });

  it('has no colours where NO_COLOR is set', async () => {
    cli.env['NO_COLOR'] = '1';
    const terminal = cli.inTerminal('get', 'talk');
    expect(await terminal.code()).toBe(0);
    delete cli.env['NO_COLOR'];
    expect(terminal.shown).toContain('status');
    expect(terminal.shown).not.toContain('\u001b');
  });

  it('follows a log through a restart of the manager, until Ctrl-C', { timeout: 90_000 }, async () => {
    const LISTEN_ADDR = `127.0.0.1:${await freePort()}`;
    const first = await stage.start({ LISTEN_ADDR });
    const url = cli.env['FAAS_URL'];
    cli.env['FAAS_URL'] = first.url;
    const terminal = cli.inTerminal('logs', '-f', 'talk', '--source', 'handler');
    cli.env['FAAS_URL'] = url;
    await stage.manager.call('talk', 'before');
    await terminal.shows('got before');
    await first.stop();
    const second = await stage.start({ LISTEN_ADDR });
    await second.call('talk', 'after');
    await terminal.shows('got after');
    terminal.type(CTRL_C);
    expect(await terminal.code()).toBe(130);
    expect(terminal.shown.match(/got before/g)).toHaveLength(1);
  });

  it('asks for a key without showing it', async () => {
    const terminal = cli.inTerminal('login', stage.manager.url);
    await terminal.shows('Key (empty for none): ');
    terminal.type('my-secret-key\n');
    expect(await terminal.code()).toBe(0);
    expect(terminal.shown).toContain('answers with your key');
    expect(terminal.shown).not.toContain('secret');
    const other = cli.inTerminal('login', stage.manager.url);
    await other.shows('Key (empty for none): ');
    other.type(CTRL_C);
    expect(await other.code()).toBe(130);
  });

  it('asks before it removes', async () => {
    const refused = cli.inTerminal('remove', 'talk');
    await refused.shows(/Remove talk from http\S+\? \[y\/N\] /);
    refused.type('\n');
    expect(await refused.code()).toBe(2);
    const following = cli.inTerminal('logs', '-f', 'talk');
    await following.shows('got after');
    const removed = cli.inTerminal('remove', 'talk');
    await removed.shows('[y/N] ');
    removed.type('y\n');
    expect(await removed.code()).toBe(0);
    expect(await following.code()).toBe(0);
    expect(following.shown).toContain('talk was removed.');
  });
});
