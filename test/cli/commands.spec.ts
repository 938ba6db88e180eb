import { execFile } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { FunctionDetailDto, FunctionDto, InvocationDto, LogRecordDto, RevisionDto } from '../client/index.js';
import { describeOnProcesses } from '../support/engines.js';
import { freePort } from '../support/http.js';
import { newKey } from '../support/secrets.js';
import { Stage } from '../support/stage.js';
import { InstalledCli } from './support/installed-cli.js';

const KEY = 'the-key-of-the-command-line';
const INVOKE_KEY = 'a-key-that-calls-alone';
/** What was printed a moment ago takes a moment to be in the log. */
const LOGGED = { timeout: 15_000, interval: 100 };
const CODE = `import os

def handle(payload):
    print("got", payload)
    if payload == "raise":
        raise ValueError("no such name")
    return os.environ.get("ANSWER", payload)
`;

describeOnProcesses('the command line, piped', (engine) => {
  const stage = Stage.on(engine, {
    SECRETS_KEYS: newKey('k1'),
    API_KEYS: `${KEY},caller:invoke:${INVOKE_KEY}`,
  });
  let cli: InstalledCli;
  beforeAll(async () => {
    cli = await InstalledCli.install({ FAAS_API_KEY: KEY, FAAS_URL: stage.manager.url });
    await writeFile(join(cli.folder, 'greet.py'), CODE);
    await writeFile(join(cli.folder, 'broken.py'), 'import nowhere\n\ndef handle(payload):\n    return 1\n');
  });
  afterAll(() => cli.remove());
  const shell = (script: string) => promisify(execFile)('bash', ['-c', script], { cwd: cli.folder, env: cli.env });

  it('is one file, and starts within 150 ms of an empty program', { timeout: 60_000 }, async () => {
    const timed = async (command: string) => {
      const began = performance.now();
      await shell(command);
      return performance.now() - began;
    };
    let [empty, ours] = [Infinity, Infinity];
    // Of a busy machine only the best of several says what a start takes.
    for (let trial = 0; trial < 3 || (trial < 40 && ours - empty > 150); trial++) {
      empty = Math.min(empty, await timed('node -e 0'));
      ours = Math.min(ours, await timed('faas --version'));
    }
    expect(ours - empty).toBeLessThan(150);
  });

  it('has a whole life of a function in JSON', { timeout: 60_000 }, async () => {
    const added = (await cli.json('deploy', 'greet.py', '--label', 'team=web', '--timeout-ms', '9000')) as {
      action: string;
      revision: number;
      function: FunctionDto;
      curl: string;
    };
    expect(added).toMatchObject({
      action: 'added',
      revision: 1,
      function: { name: 'greet', labels: { team: 'web' }, timeout_ms: 9000 },
    });
    const called = await promisify(execFile)('bash', ['-c', added.curl], { env: cli.env });
    expect(JSON.parse(called.stdout)).toEqual({ result: 'hello' });

    const revised = await cli.json(
      'deploy',
      'greet.py',
      '--env',
      'ANSWER=changed',
      '-m',
      'Why',
      '-l',
      'a=b',
      '--description',
      'D',
    );
    expect(revised).toMatchObject({ action: 'revised', revision: 2, function: { description: 'D', timeout_ms: 9000 } });
    expect(await cli.json('invoke', 'greet')).toEqual({ result: 'changed' });
    const [listed] = (await cli.json('list', '--label', 'team=web', '--status', 'running')) as FunctionDto[];
    expect(listed).toMatchObject({ name: 'greet', labels: { team: 'web', a: 'b' } });
    expect((await cli.json('get', listed!.id)) as FunctionDetailDto).toMatchObject({ env: { ANSWER: 'changed' } });

    expect(await cli.json('rollback', 'greet')).toMatchObject({ revision: 1, serving: true });
    expect(await cli.json('invoke', 'greet', '-f', 'greet.py')).toEqual({ result: CODE });
    const revisions = (await cli.json('revisions', 'greet')) as RevisionDto[];
    expect(revisions.map(({ revision, serving, message }) => [revision, serving, message])).toEqual([
      [2, false, 'Why'],
      [1, true, ''],
    ]);
    await vi.waitFor(async () => {
      const { out } = await cli.run([
        'logs',
        'greet',
        '--json',
        '--tail',
        '50',
        '--source',
        'handler',
        '--since',
        '10m',
      ]);
      const records = out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as LogRecordDto);
      expect(records.map(({ line }) => line)).toContain('got hello');
    }, LOGGED);
    expect(await cli.json('traffic', 'greet', '1=100', '2=0:next')).toMatchObject({ mode: 'targets' });
    expect(await cli.json('invoke', 'greet', '--tag', 'next', '--sticky', 'me')).toEqual({ result: 'changed' });
    expect(await cli.json('invoke', 'greet', 'Ada', '--later')).toMatchObject({ status: 'waiting', payload_bytes: 3 });
    expect(await cli.json('deploy', 'greet.py')).toMatchObject({ revision: 3, serving: false });
    expect((await cli.run(['deploy', 'greet.py'])).out).toContain(
      'without calls until faas traffic greet gives it some',
    );
    expect(await cli.json('traffic', 'greet', 'auto')).toMatchObject({ targets: [{ revision: 4, percent: 100 }] });
    expect(await cli.json('traffic', 'greet')).toMatchObject({ mode: 'auto', pending: null });
    expect(await cli.json('remove', 'greet', '--yes')).toEqual({ ref: 'greet', removed: true });
    expect(await cli.json('list')).toEqual([]);
  });

  it('keeps secrets whose values are in no argument and no answer', { timeout: 60_000 }, async () => {
    const set = async (value: string) => {
      const { stdout } = await shell(`printf '%s\\n' '${value}' | faas secrets set db-password --json`);
      expect(stdout).not.toContain(value);
      return JSON.parse(stdout) as { name: string };
    };
    expect(await set('first secret')).toMatchObject({ name: 'db-password', functions: [] });
    await cli.json('deploy', 'greet.py', '--name', 'safe', '--secrets', 'ANSWER=db-password');
    expect(await cli.json('invoke', 'safe')).toEqual({ result: 'first secret' });
    expect((await cli.run(['get', 'safe'])).out).toMatch(/secrets +ANSWER=db-password/);
    await set('second secret');
    await vi.waitFor(async () => expect(await cli.json('invoke', 'safe')).toEqual({ result: 'second secret' }), LOGGED);
    expect(await cli.json('secrets')).toMatchObject([{ name: 'db-password', functions: [{ name: 'safe' }] }]);
    expect((await cli.run(['secrets'])).out).toMatch(/db-password +\S+ +safe/);
    expect(await cli.run(['secrets', 'remove', 'db-password'])).toMatchObject({ code: 4 });
    expect(await cli.run(['secrets', 'set'])).toMatchObject({ code: 2 });
    const { stdout } = await shell(
      `printf '\\xff\\xfeabc' | faas secrets set bytes 2>&1; echo "\${PIPESTATUS[1]}"; faas secrets`,
    );
    expect(stdout).toMatch(/^error: The value is not UTF-8\.\n.*base64\.\n2\n/);
    expect(stdout).not.toMatch(/^bytes/m);
    expect((await cli.run(['secrets', '--help'])).out).toContain('One line end at its end is cut off.');
    await cli.json('remove', 'safe', '--yes');
    expect(await cli.json('secrets', 'remove', 'db-password')).toEqual({ name: 'db-password', removed: true });
  });

  it('keeps the schedules of a function', { timeout: 60_000 }, async () => {
    await cli.json('deploy', 'greet.py', '--name', 'timed');
    const nightly = ['schedules', 'timed', 'set', 'nightly', '--cron', '30 2 * * *', '--timezone', 'Europe/Berlin'];
    expect(await cli.json(...nightly, '--payload', 'Ada')).toMatchObject({
      ...{ name: 'nightly', cron: '30 2 * * *', timezone: 'Europe/Berlin', payload: 'Ada', status: 'active' },
    });
    const disabled = await cli.run(['schedules', 'timed', 'set', 'often', '--interval-ms', '60000', '--disabled']);
    expect(disabled).toMatchObject({ code: 0, out: '✓ often is made, it rests\n' });
    const often = ['schedules', 'timed', 'set', 'often', '--interval-ms', '60000', '--overlap', 'queue'];
    const tried = ['--priority', 'high', '--max-attempts', '7', '--retry-on', 'crash,timeout', '--backoff-ms', '10'];
    const again = await cli.run([...often, ...tried, '--max-age-ms', '60000', '--callback-url', 'none']);
    expect(again.out).toMatch(/^✓ often is set, next at 20\d\d-/);
    expect((await cli.run(['schedules', 'timed'])).out).toMatch(
      /nightly +30 2 \* \* \* Europe\/Berlin +active +\S+Z +0 +0\n *often +every 60000 ms +active/,
    );
    expect((await cli.run(['schedules', 'timed', 'show', 'nightly'])).out).toMatch(/\nnext: \S+, \S+, \S+, \S+, \S+/);
    expect(await cli.json('schedules', 'timed', 'remove', 'nightly')).toEqual({ name: 'nightly', removed: true });
    expect(await cli.json('schedules', 'timed')).toMatchObject([
      {
        ...{ name: 'often', overlap: 'queue', priority: 'high', max_attempts: 7, backoff_ms: 10, max_age_ms: 60_000 },
        ...{ retry_on: ['crash', 'timeout'], callback_url: null },
      },
    ]);
    expect(await cli.run(['schedules', 'timed', 'set', 'wrong', '--cron', '0 0 30 2 *'])).toMatchObject({ code: 2 });
    expect(await cli.run(['schedules', 'timed', 'remove', 'nightly'])).toMatchObject({ code: 3 });
    expect(await cli.run(['schedules', 'timed', 'set'])).toMatchObject({ code: 2 });
    await cli.json('remove', 'timed', '--yes');
  });

  it('shows what ran, and how it went', async () => {
    const tried = ['--max-attempts', '2', '--backoff-ms', '0', '--callback-url', 'none'];
    const kept = ['--public', '--payloads', '1', '--redact', 'card', ...tried];
    const history = { payloads: 1, redact: ['card'] };
    expect(await cli.json('deploy', 'greet.py', '--name', 'past', ...kept)).toMatchObject({
      function: { public: true, history },
    });
    await cli.json('invoke', 'past', 'Ada');
    expect((await cli.run(['invoke', 'past', 'raise'])).code).toBe(6);

    const list = async (...args: string[]) => (await cli.json('history', 'past', ...args)) as InvocationDto[];
    const [failed, good] = await list('--since', '1h', '--kind', 'execute', '--revision', '1');
    expect(await list('--status', 'failed', '--code', 'handler_error')).toMatchObject([{ id: failed!.id }]);
    expect(await list('--kind', 'http')).toEqual([]);
    const first = await cli.run(['history', 'past', '--limit', '1']);
    expect(first.err).toBe(`There are older ones: add --after ${failed!.id}\n`);
    expect(first.out).toMatch(
      /^CALL .*\n\S{36} +\S+Z +execute +failed +1 +[\d.]+ +handler_error: ValueError: no such name\n$/,
    );
    expect(await list('--after', failed!.id)).toMatchObject([{ id: good!.id }]);
    expect(await cli.json('history', '--call', good!.id)).toMatchObject({ payload: 'Ada', result: 'Ada' });
    expect((await cli.run(['history', '--call', good!.id])).out).toMatch(
      /\nstatus +succeeded\n(.*\n)*took +\S+ ms \(queue .*\n(.*\n)*payload +Ada\nresult +Ada\n$/,
    );
    const { id } = (await cli.json('invoke', 'past', 'raise', '--later')) as InvocationDto;
    await vi.waitFor(async () => {
      const { out } = await cli.run(['history', '--call', id]);
      expect(out).toMatch(/\nstatus +dead\nattempt +2 of 2\n/);
      expect(out).toMatch(/\nATTEMPT .*\n2 +.*failed .*handler_error.*\n1 +.*failed .*handler_error.*\n$/);
    }, LOGGED);

    expect(await cli.json('stats', 'past', '--window', '30m')).toMatchObject({ calls: 4, errors: 3 });
    expect((await cli.run(['stats', 'past'])).out).toMatch(/^TIME +CALLS .*\n(\S+:00\.000Z .*\n)+all +4 +3 +0 /);

    expect(await cli.json('deploy', 'greet.py', '--name', 'past', '--no-public')).toMatchObject({
      function: { public: false, history, invocation_defaults: { max_attempts: 2 } },
    });
    const { out } = await cli.run(['get', 'past']);
    for (const said of [/public +false/, /history .*payloads=1/, /history .*redact=card/, /max_attempts=2/])
      expect(out).toMatch(said);
    await cli.json('remove', 'past', '--yes');
  });

  it('writes results to stdout, the rest to stderr, and no colours', { timeout: 60_000 }, async () => {
    const deployed = await cli.run(['deploy', 'greet.py', '--name', 'plain']);
    expect(deployed.err).toBe(`Deploying plain to ${stage.manager.url} …\n`);
    expect(deployed.out).toMatch(
      /^✓ plain \(\w{16}\): added, revision 1 serves after .* s\n {2}URL {3}http.*\n {2}Call {2}curl /,
    );
    expect(await cli.run(['invoke', 'plain', '-'], { input: 'größer\n' })).toEqual({
      code: 0,
      out: 'größer\n',
      err: '',
    });
    const broken = await cli.run(['deploy', 'broken.py', '--name', 'plain']);
    expect(broken).toMatchObject({ code: 6, out: '' });
    expect(broken.err).toContain('File "broken.py", line 1, in <module>\n    import nowhere\n');
    expect(broken.err).toContain('broken.py:1\n> 1 | import nowhere\n  2 | \n');
    for (const { out, err } of [deployed, broken]) expect(`${out}${err}`).not.toContain('\u001b');
    expect(await cli.run(['invoke', 'plain', 'x'])).toEqual({ code: 0, out: 'x\n', err: '' });
  });

  describe('ends with a code for each kind of failure:', () => {
    const port = freePort();
    const cases: [number, string, string[], NodeJS.ProcessEnv?][] = [
      [2, 'usage', ['list', '--no-such-option']],
      [2, 'usage', ['get', '']],
      [2, 'usage', ['remove', '.', '--yes']],
      [2, 'usage', ['secrets', 'remove', '..']],
      [2, 'usage', ['deploy', 'greet.py', '--name', '']],
      [2, 'usage', ['deploy', 'greet.py', '--memory-mib', '1']],
      [2, 'usage', ['remove', 'failing']],
      [2, 'usage', ['list'], { FAAS_URL: 'manager' }],
      [3, 'function_not_found', ['get', 'nobody']],
      [3, 'revision_not_found', ['rollback', 'failing', '9']],
      [3, 'not_found', ['deploy', 'nothing.py']],
      [2, 'usage', ['traffic', 'failing', 'auto', '1=100']],
      [2, 'usage', ['history']],
      [2, 'usage', ['history', 'failing', '--limit', '0']],
      [2, 'usage', ['stats', 'failing', '--window', 'soon']],
      [3, 'invocation_not_found', ['history', '--call', '019356b4-1c34-7a11-8e02-77c1a2b3c4d5']],
      [4, 'revision_without_traffic', ['invoke', 'failing', '--revision', '7']],
      [4, 'function_disabled', ['invoke', 'disabled']],
      [5, 'unauthorized', ['list'], { FAAS_API_KEY: 'another-key-than-that' }],
      [5, 'unauthorized', ['list'], { FAAS_API_KEY: '' }],
      [5, 'forbidden', ['list'], { FAAS_API_KEY: INVOKE_KEY }],
      [6, 'handler_error', ['invoke', 'failing', 'raise']],
      [6, 'handler_not_loadable', ['deploy', 'broken.py']],
      [7, 'unavailable', ['list'], { FAAS_URL: 'http://127.0.0.1:PORT' }],
      [7, 'unavailable', ['invoke', 'failing', '--wait-ms', '0']],
    ];
    beforeAll(async () => {
      for (const name of ['failing', 'disabled']) await cli.json('deploy', 'greet.py', '--name', name);
      await stage.manager.send('/functions/disabled', {
        method: 'PATCH',
        headers: { 'X-Api-Key': KEY },
        body: '{"enabled": false}',
      });
    });

    it.each(cases)('%i %s of %j', async (code, word, args, env = {}) => {
      const url = env['FAAS_URL']?.replace('PORT', String(await port));
      const ran = await cli.run([...args, '--json'], { env: { ...env, ...(url !== undefined && { FAAS_URL: url }) } });
      expect(ran.code, ran.err).toBe(code);
      const { error } = JSON.parse(ran.out) as { error: { code: string; exit_code: number; detail: string } };
      expect(ran.err).toContain('error: ');
      expect(error.exit_code).toBe(code);
      if (code === 2) expect(error.detail).toMatch(/\S/);
      else expect(error.code).toBe(word);
    });
  });

  it("shows a handler's traceback, and how to read what the call printed", async () => {
    const { code, err } = await cli.run(['invoke', 'failing', 'raise']);
    expect(code).toBe(6);
    expect(err).toContain('raise ValueError("no such name")');
    const asked = /faas (logs failing --request-id \S+)/.exec(err)![1]!.split(' ');
    await vi.waitFor(async () => expect((await cli.run(asked)).out).toMatch(/ got raise\n/), LOGGED);
  });

  it('ends quietly when its reader has seen enough', async () => {
    await cli.json('invoke', 'failing', 'one');
    const { stdout, stderr } = await shell('faas list --json | head -c 1; echo "${PIPESTATUS[0]}"');
    expect({ stdout, stderr }).toEqual({ stdout: '[0\n', stderr: '' });
    // That it has gone is told by the next line that is written.
    const following = shell('faas logs failing -f | head -n 1; echo "${PIPESTATUS[0]}"');
    let ended: Awaited<typeof following> | undefined;
    do {
      const calling = cli.json('invoke', 'failing', 'another').then(() => undefined);
      ended = await Promise.race([following, calling]);
      await calling;
    } while (ended === undefined);
    expect(ended).toEqual({ stdout: expect.stringMatching(/ got \w+\n0\n$/) as string, stderr: '' });
  });

  it('ends with its own code where its reader has gone', async () => {
    for (const [command, code] of [
      ['deploy broken.py', 6],
      ['deploy broken.py --json', 6],
      ['get nobody', 3],
      ['logs nobody -f --json', 3],
      ['list', 0],
    ] as const) {
      const { stdout } = await shell(`faas ${command} 2>&1 | true; echo "\${PIPESTATUS[0]}"`);
      expect({ command, stdout }).toEqual({ command, stdout: `${code}\n` });
    }
  });

  it('says in a line that its result can’t be written', async () => {
    const { stdout } = await shell('faas list 2>&1 >/dev/full; echo "$?"');
    expect(stdout).toMatch(/^error: The result can't be written: ENOSPC.*\n1\n$/);
    expect((await shell('faas get nobody 2>/dev/full; echo "$?"')).stdout).toBe('3\n');
  });

  it('stores a key that works for its user alone, and shows it to nobody', async () => {
    const environment = { FAAS_API_KEY: '', FAAS_URL: '' };
    const login = (key: string, url = stage.manager.url) =>
      cli.run(['login', url, '--key-stdin', '--json'], { input: key, env: environment });
    expect((await login('a-key-that-nobody-knows')).code).toBe(5);
    expect((await login('x'.repeat(20), 'http://127.0.0.1:1')).code).toBe(7);
    const path = join(cli.folder, 'config', 'faas', 'config.json');
    await expect(stat(path)).rejects.toThrow('ENOENT');

    const stored = await login(`${KEY}\n`);
    expect(stored).toMatchObject({ code: 0, err: '' });
    expect(JSON.parse(stored.out)).toEqual({ url: stage.manager.url, has_key: true, path });
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual({ url: stage.manager.url, key: KEY });
    expect(((await stat(path)).mode & 0o777).toString(8)).toBe('600');
    expect((await cli.run(['list'], { env: environment })).code).toBe(0);
    expect((await login(INVOKE_KEY)).code).toBe(0);
    expect((await cli.run(['invoke', 'failing', 'x'], { env: environment })).out).toBe('x\n');
  });

  it('completes names of functions in bash', async () => {
    const script =
      'eval "$(faas completion bash)"; COMP_WORDS=(faas invoke fai); COMP_CWORD=2; _faas; printf "%s\\n" "${COMPREPLY[@]}"';
    expect((await shell(script)).stdout).toBe('failing\n');
  });
});
