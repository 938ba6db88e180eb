// Makes the former release ready to run beside this one, for the tests of upgrades: its build and, with --image, its
// worker's image. Both are kept in .cache and in the engine. The last line that it prints says where they are.
import { existsSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Docker from 'dockerode';
import { ensureImage } from './setup/engine.mjs';
import { withLock } from './setup/lock.mjs';
import { attempt, run, say, SetupError, step } from './setup/progress.mjs';

/** The release that managers are upgraded from, and go back to: the commit after which the present one was begun. */
const COMMIT = '44383c0da0c9b6ceab4e71c30d89f49a26b54a03';
/** What both releases use where they want the same of it. */
const SHARED = [
  { lock: 'package-lock.json', folder: 'node_modules' },
  { lock: join('apps', 'worker', 'requirements.lock'), folder: join('.cache', 'worker-venv') },
];

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const former = join(root, '.cache', 'release', COMMIT);
const image = `faas-worker:release-${COMMIT.slice(0, 12)}`;
const wantsImage = process.argv.includes('--image');

try {
  process.umask(0o022);
  await withLock(join(root, '.cache', 'release.lock'), async () => {
    if (!existsSync(former)) await step(`taking ${COMMIT} from git`, takeTree);
    SHARED.forEach(share);
    await step('building the former release', () =>
      run(process.execPath, [join(former, 'scripts', 'setup.mjs')], { cwd: former }),
    );
    if (wantsImage) await ensureImage(new Docker(), join(former, 'apps', 'worker'), image);
  });
  say(JSON.stringify({ root: former, ...(wantsImage ? { image } : {}) }));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`✗ ${error.message}`);
  process.exit(1);
}

async function takeTree() {
  const { ok, output } = await attempt('git', ['cat-file', '-e', `${COMMIT}^{commit}`], { cwd: root });
  if (!ok) {
    throw new SetupError(
      `Git does not have the former release, commit ${COMMIT} (${output.trim()}). Tests of upgrades need a clone with ` +
        'its history: git fetch --unshallow.',
    );
  }
  const part = `${former}.part`;
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part, { recursive: true });
  const tar = join(part, 'tree.tar');
  await run('git', ['archive', '--format=tar', `--output=${tar}`, COMMIT], { cwd: root });
  await run('tar', ['-xf', tar, '-C', part]);
  rmSync(tar);
  renameSync(part, former);
}

/** Looked at each time, since this release's lock files change: what is not the same is installed for the former one. */
function share({ lock, folder }) {
  const link = join(former, folder);
  const isLink = lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  const isSame = readFileSync(join(root, lock)).equals(readFileSync(join(former, lock)));
  if (isLink && !isSame) rmSync(link);
  if (isLink || !isSame) return;
  rmSync(link, { recursive: true, force: true });
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync(join(root, folder), link);
}
