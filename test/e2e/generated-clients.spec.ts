import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addFunction, executeFunction, getFunction, listFunctions, removeFunction } from '../client/index.js';
import { describeOnAnyEngine } from '../support/engines.js';
import { Stage } from '../support/stage.js';

const REQUIRED = process.env['REQUIRE_CLIENTS'] === '1';
const PROGRAMS = resolve('test/clients');
const HANDLER = join(PROGRAMS, 'handler.py');
const GENERATORS = resolve('.cache/client-generators/bin');
const PYTHON = join(GENERATORS, 'python');
const KEY = 'the-key-of-generated-clients';
const MINUTES = 60_000;

/** Every kind of JSON, and numbers that clients with narrower types would change. */
const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  16_777_217,
  9_007_199_254_740_991,
  1e300,
  0.1,
  '',
  'größer – 你好 💥\u2028',
  [],
  {},
  [null, [1, 'two', { three: [3.5] }]],
  { '': null, type: 'x', result: { result: [] } },
];
const PAYLOADS = VALUES.map((value) => JSON.stringify(value));
const SEEN = {
  status: 'running',
  concurrency: 4,
  results: VALUES,
  raised: { status: 500, code: 'handler_error', python_type: 'ValueError', python_message: 'no name given' },
  detail: { last_error: null, max_replicas: null },
  listed: ['handle'],
  removed: 204,
  missing: 'function_not_found',
  invalid: { code: 'invalid_upload', field: 'python_file' },
};

const hasGenerators = REQUIRED || existsSync(PYTHON);
const hasGo = REQUIRED || spawnSync('go', ['version']).status === 0;

describeOnAnyEngine('a client generated from the document that a manager serves', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: KEY });
  let folder: string;
  beforeAll(async () => {
    await mkdir('.cache', { recursive: true });
    folder = await mkdtemp(resolve('.cache/clients-'));
    await writeFile(join(folder, 'openapi.json'), (await stage.manager.send('/docs/doc.json')).body);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const run = async (program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = folder) => {
    const PATH = [GENERATORS, process.env['PATH']].join(delimiter);
    const options = { cwd, env: { ...process.env, PATH, ...env }, timeout: 4 * MINUTES };
    const { stdout } = await promisify(execFile)(program, args, options).catch((error: Error & { stdout?: string }) => {
      throw new Error(`${error.message}\n${error.stdout}`);
    });
    return stdout;
  };
  const generate = (generator: string, output: string, properties: string) =>
    run(join(GENERATORS, 'openapi-generator-cli'), [
      ...['generate', '-i', 'openapi.json', '-g', generator, '-o', output],
      ...[`--additional-properties=${properties}`, '--global-property=apiTests=false,modelTests=false'],
    ]);
  /** What the program says that it saw. */
  const seenBy = async (program: string, args: readonly string[], env?: NodeJS.ProcessEnv) =>
    JSON.parse(
      await run(program, [...args, stage.manager.url, KEY, HANDLER, JSON.stringify(PAYLOADS)], env),
    ) as unknown;

  it.runIf(hasGenerators)('by openapi-python-client works', { timeout: 5 * MINUTES }, async () => {
    const client = join(folder, 'python', 'faas_client');
    await mkdir(join(folder, 'python'));
    const args = ['generate', '--path', 'openapi.json', '--output-path', client, '--meta', 'none', '--fail-on-warning'];
    await run(join(GENERATORS, 'openapi-python-client'), args);
    const seen = await seenBy(PYTHON, [join(PROGRAMS, 'python', 'program.py')], { PYTHONPATH: join(folder, 'python') });
    expect(seen).toEqual(SEEN);
  });

  it.runIf(hasGenerators)('by openapi-generator for TypeScript works', { timeout: 5 * MINUTES }, async () => {
    await generate('typescript-fetch', 'typescript/client', 'importFileExtension=.js,modelPropertyNaming=original');
    await cp(join(PROGRAMS, 'typescript'), join(folder, 'typescript'), { recursive: true });
    await run(process.execPath, [
      resolve('node_modules/typescript/bin/tsc'),
      ...[
        '--ignoreConfig',
        '--strict',
        '--target',
        'es2024',
        '--module',
        'nodenext',
        '--skipLibCheck',
        '--types',
        'node',
      ],
      ...['--rootDir', 'typescript', '--outDir', 'javascript', 'typescript/program.ts'],
    ]);
    expect(await seenBy(process.execPath, ['javascript/program.js'])).toEqual(SEEN);
  });

  it.runIf(hasGenerators && hasGo)('by openapi-generator for Go works', { timeout: 5 * MINUTES }, async () => {
    await generate('go', 'go/faas', 'packageName=faas,withGoMod=false');
    await cp(join(PROGRAMS, 'go'), join(folder, 'go'), { recursive: true });
    await writeFile(join(folder, 'go', 'go.mod'), 'module clients\n\ngo 1.19\n');
    const flags = { CGO_ENABLED: '0', GOFLAGS: '-mod=mod', GOTOOLCHAIN: 'local', GOWORK: 'off' };
    await run('go', ['build', '-o', 'program', '.'], flags, join(folder, 'go'));
    expect(await seenBy(join(folder, 'go', 'program'), [])).toEqual(SEEN);
  });

  it('by hey-api works', async () => {
    const { client } = stage.manager;
    const code = await readFile(HANDLER, 'utf8');
    const { data: added } = await addFunction({ client, body: { code, function_name: 'handle', concurrency: 4 } });
    const path = { id: added!.id };
    const results: unknown[] = [];
    for (const payload of PAYLOADS) {
      results.push((await executeFunction({ client, path, body: { payload } })).data!.result);
    }
    const { error: raised } = await executeFunction({ client, path, body: { payload: 'raise' } });
    const { data: detail } = await getFunction({ client, path });
    const { data: listed } = await listFunctions({ client, query: { limit: 10 } });
    const removed = await removeFunction({ client, path });
    const { error: missing } = await getFunction({ client, path });
    const { error: invalid } = await addFunction({ client, body: { code: '', function_name: 'f' } });
    expect({
      status: added!.status,
      concurrency: added!.concurrency,
      results,
      raised: {
        status: raised!.status,
        code: raised!.code,
        python_type: raised!.python_type,
        python_message: raised!.python_message,
      },
      detail: { last_error: detail!.last_error, max_replicas: detail!.max_replicas },
      listed: listed!.map((one) => one.function_name),
      removed: removed.response?.status,
      missing: missing!.code,
      invalid: { code: invalid!.code, field: invalid!.field },
    }).toEqual({ ...SEEN, invalid: { ...SEEN.invalid, field: 'code' } });
  });
});
