import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectNode } from './node-packages.mjs';
import { run, step } from './progress.mjs';

/** For the tests, and for the command line, which imports nothing of tests. */
const FOLDERS = ['test/client', 'apps/cli/src/client'];

/** Whether the clients were made from the OpenAPI document as it is now. */
export function clientMade(root) {
  const document = readFileSync(join(root, 'openapi.json'), 'utf8');
  return FOLDERS.every((folder) => {
    const stamp = join(root, folder, 'openapi.json');
    return existsSync(stamp) && readFileSync(stamp, 'utf8') === document;
  });
}

/** Writes the client's sources to a folder, from openapi.json. */
export async function generateClient(root, folder) {
  const generator = join(root, 'node_modules', '@hey-api', 'openapi-ts', 'bin', 'run.js');
  await run(projectNode(root), [generator, '--input', 'openapi.json', '--output', folder], { cwd: root });
}

export async function makeClient(root) {
  await step('generating the client', async () => {
    const [made, ...copies] = FOLDERS.map((folder) => join(root, folder));
    await generateClient(root, made);
    writeFileSync(join(made, 'openapi.json'), readFileSync(join(root, 'openapi.json')));
    for (const copy of copies) {
      rmSync(copy, { recursive: true, force: true });
      cpSync(made, copy, { recursive: true });
    }
  });
}
