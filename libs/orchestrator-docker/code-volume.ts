import { randomBytes } from 'node:crypto';

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
