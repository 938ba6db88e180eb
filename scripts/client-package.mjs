// Makes the package of the TypeScript client, ready for npm publish, in .cache/client-package:  npm run client
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { generateClient } from './setup/client.mjs';
import { run, step } from './setup/progress.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, '.cache', 'client-package');
const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
const { version, license } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

await step(`making the client's package ${version}`, async () => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const write = (name, content) => writeFileSync(join(folder, name), content);
  write(
    'package.json',
    JSON.stringify(
      {
        name: 'service-faas-client',
        version,
        description: 'Calls a service-faas manager: made from its OpenAPI document.',
        license,
        // npm compares it with what the provenance says.
        ...(GITHUB_REPOSITORY && {
          repository: { type: 'git', url: `git+${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}.git` },
        }),
        type: 'module',
        exports: { '.': entry('index'), './client': entry('client/index') },
        files: ['dist'],
        engines: { node: '>=20' },
      },
      null,
      2,
    ),
  );
  write(
    'README.md',
    `# service-faas client

\`\`\`ts
import { addFunction, executeFunction } from 'service-faas-client';
import { createClient } from 'service-faas-client/client';

const client = createClient({ baseUrl: 'http://127.0.0.1:8080', headers: { 'X-API-Key': '…' } });
const code = 'def handle(payload):\\n    return payload.upper()\\n';
const added = await addFunction({ client, body: { function_name: 'handle', code } });
const { data } = await executeFunction({ client, path: { id: added.data!.id }, body: { payload: 'hello' } });
\`\`\`
`,
  );
  const source = join(folder, 'src');
  await generateClient(root, source);
  const flags = [
    '--target',
    'ES2022',
    '--module',
    'nodenext',
    '--strict',
    '--skipLibCheck',
    '--declaration',
    '--ignoreConfig',
  ];
  const places = ['--rootDir', source, '--outDir', join(folder, 'dist')];
  await run(process.execPath, [compiler, ...flags, ...places, join(source, 'index.ts')], {
    cwd: folder,
  });
});

function entry(name) {
  return { types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` };
}
