// Runs the suites that need a cluster on the one that KUBECONFIG names:
//   KUBECONFIG=… npm run test:kubernetes                          all of them
//   KUBECONFIG=… npm run test:kubernetes -- -t 'rolls'            arguments for vitest
// The cluster's nodes must have the images, or be able to pull them (CONTRIBUTING.md).
import { existsSync } from 'node:fs';
import { delimiter, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { say } from './setup/progress.mjs';
import { closeWith } from './test/summary.mjs';
import { runVitest } from './test/vitest.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const fault = faultOf(process.env.KUBECONFIG);
if (fault === undefined) {
  process.exitCode = closeWith([await runVitest(root, ['--project=cluster', ...process.argv.slice(2)])]);
} else {
  say(`✗ ${fault}`);
  process.exitCode = 2;
}

/** These suites make and remove namespaces, so nobody's default cluster is taken: it must be named. */
function faultOf(given) {
  if (!given) return 'KUBECONFIG is not set: name the kubeconfig of a cluster that tests may use.';
  const missing = given.split(delimiter).find((path) => path !== '' && !existsSync(path));
  return missing === undefined ? undefined : `KUBECONFIG names ${missing}, which doesn't exist.`;
}
