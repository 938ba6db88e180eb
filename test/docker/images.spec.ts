import { text } from 'node:stream/consumers';
import { extract } from 'tar-stream';
import { beforeAll, describe, expect, it } from 'vitest';
import { docker, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const MANAGER_IMAGE = process.env['DOCKER_TEST_MANAGER_IMAGE'] ?? 'faas-manager:local';

const SET_ID = 0o6000;
const INSTALLERS =
  /(^|\/)s?bin\/(apt|apt-get|apt-key|dpkg|dpkg-deb|apk|yum|dnf|pip|pip3|pip3?\.\d+|easy_install|uv|npm|npx|yarn|yarnpkg|pnpm|corepack)$/;
const INSTALLING_MODULES =
  /(^|\/)(ensurepip|(site|dist)-packages\/pip|python-wheels|node_modules\/(npm|corepack|yarn))\//;
/** With a line of the key itself: programs that read keys name the words around it. */
const PRIVATE_KEY = /-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----\s+([\w-]+: .*\s+)*[A-Za-z0-9+/=]{16}/;
const LARGEST_READ = 512 * 1024;

interface Found {
  readonly setId: string[];
  readonly installers: string[];
  readonly keys: string[];
  packages: string;
  count: number;
}

/** All that a container of this image begins with. */
async function contentOf(image: string): Promise<Found> {
  const container = await docker.createContainer({ Image: image });
  const found = { setId: [] as string[], installers: [] as string[], keys: [] as string[], packages: '', count: 0 };
  try {
    const entries = extract();
    (await container.export()).pipe(entries);
    for await (const entry of entries) {
      const { name, mode, type, size } = entry.header;
      found.count += 1;
      if (mode & SET_ID) found.setId.push(name);
      if (type !== 'directory' && INSTALLERS.test(name)) found.installers.push(name);
      if (INSTALLING_MODULES.test(name)) found.installers.push(name);
      const content = type === 'file' && size <= LARGEST_READ ? await text(entry) : '';
      if (PRIVATE_KEY.test(content)) found.keys.push(name);
      if (name === 'var/lib/dpkg/status') found.packages = content;
      entry.resume();
    }
  } finally {
    await container.remove({ force: true });
  }
  return found;
}

const reason = await whyNoDocker(WORKER_IMAGE, MANAGER_IMAGE);

describe.skipIf(reason !== undefined).each([
  ['worker', WORKER_IMAGE, '65532:65532', ['python3', '-m', 'faas_worker']],
  ['manager', MANAGER_IMAGE, 'node', ['node', 'dist/apps/manager/src/main.js']],
] as const)('The %s’s image', (_, image, user, command) => {
  let found: Found;
  beforeAll(async () => {
    found = await contentOf(image);
    expect(found.count).toBeGreaterThan(1_000);
  }, 120_000);

  it('has no file that makes whoever runs it another user', () => {
    expect(found.setId).toEqual([]);
  });

  it('has nothing that installs programs or packages', () => {
    expect(found.installers).toEqual([]);
  });

  it('has no private key, of tests or otherwise', () => {
    expect(found.keys).toEqual([]);
  });

  it('still says which packages of the system it is made of', () => {
    expect(found.packages).toMatch(/^Package: libc6$/m);
  });

  it('runs as an ordinary user what it always ran, and says so in one layer', async () => {
    const { Config: config, RootFS: root } = await docker.getImage(image).inspect();
    expect(config.User).toBe(user);
    expect(config.Cmd).toEqual(command);
    expect(config.Healthcheck).toBeDefined();
    expect(config.Env).toContain('LANG=C.UTF-8');
    // Beside the layer that holds everything: the working folder.
    expect(root.Layers?.length).toBeLessThanOrEqual(2);
  });
});
