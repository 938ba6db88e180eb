import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';

/**
 * Volumes that hold code bear their installation's name: an engine that is killed while it makes one keeps neither its
 * labels nor the container it was for, and whose it is can be told by nothing else.
 */
export function codeVolumePrefix(owner: string): string {
  return `faas-code-${owner}-`;
}

export function newCodeVolume(owner: string): string {
  return codeVolumePrefix(owner) + randomBytes(8).toString('hex');
}

/** The handler file as an archive for the engine: owned by root and read-only, so the worker can't change its code. */
export async function codeArchive(code: Buffer): Promise<Buffer> {
  const archive = pack();
  archive.entry({ name: 'handler.py', mode: 0o644, uid: 0, gid: 0, mtime: new Date(0) }, code);
  archive.finalize();
  return buffer(archive);
}
