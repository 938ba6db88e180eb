import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const FILES = [
  'apps/manager/Dockerfile',
  'apps/worker/Dockerfile',
  'apps/worker/builder.Dockerfile',
  'docker-compose.yml',
  'docker-compose.socket-proxy.yml',
  'k8s/overlays/dev/postgres.yaml',
];
/** The default of a build argument or of a variable, or the image itself; of images that this project doesn't make. */
const FOREIGN_IMAGE = /(?:BASE_IMAGE=|IMAGE:-|image: )((?!faas-|\$)[a-z][\w./-]*:[\w.-]+)(@sha256:[0-9a-f]{64})?/g;

interface Named {
  readonly file: string;
  readonly tag: string;
  readonly digest: string | undefined;
}

function imagesIn(file: string): Named[] {
  return [...readFileSync(file, 'utf8').matchAll(FOREIGN_IMAGE)].map(([, tag, digest]) => ({
    file,
    tag: tag ?? '',
    digest,
  }));
}

describe('images made by others', () => {
  it.each(FILES)('are all named by a digest in %s', (file) => {
    const images = imagesIn(file);
    expect(images).not.toEqual([]);
    expect(images.filter(({ digest }) => digest === undefined)).toEqual([]);
  });

  it('have one digest for each tag, wherever they are named', () => {
    const all = FILES.flatMap(imagesIn);
    const byTag = Map.groupBy(all, ({ tag }) => tag);
    for (const [tag, named] of byTag) expect([tag, new Set(named.map(({ digest }) => digest)).size]).toEqual([tag, 1]);
    expect(new Set(all.map(({ tag }) => tag.split(':')[0]))).toEqual(
      new Set(['node', 'python', 'postgres', 'wollomatic/socket-proxy']),
    );
  });
});
