import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectNode } from './node-packages.mjs';
import { run, step } from './progress.mjs';

/** Whether the tests' client was made from the OpenAPI document as it is now. */
export function clientMade(root) {
  const stamp = join(root, 'test', 'client', 'openapi.json');
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === readFileSync(join(root, 'openapi.json'), 'utf8');
}

/** Writes the client's sources to a folder, from openapi.json. */
export async function generateClient(root, folder) {
  const generator = join(root, 'node_modules', '@hey-api', 'openapi-ts', 'bin', 'run.js');
  await run(projectNode(root), [generator, '--input', 'openapi.json', '--output', folder], { cwd: root });
}

export async function makeClient(root) {
  await step("generating the tests' client", async () => {
    await generateClient(root, 'test/client');
    writeFileSync(join(root, 'test', 'client', 'openapi.json'), readFileSync(join(root, 'openapi.json')));
  });
}
