import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';

/** The handler file as an archive for the engine: owned by root and read-only, so the worker can't change its code. */
export async function codeArchive(code: Buffer): Promise<Buffer> {
  const archive = pack();
  archive.entry({ name: 'handler.py', mode: 0o644, uid: 0, gid: 0, mtime: new Date(0) }, code);
  archive.finalize();
  return buffer(archive);
}
