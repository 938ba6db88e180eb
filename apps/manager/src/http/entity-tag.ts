import type { IncomingMessage, ServerResponse } from 'node:http';

const TAG = /^(W\/)?"([\x21\x23-\x7e]*)"$/;

/**
 * Says which version of a resource this is. A caller gets the whole answer even if it has that version: it shows more
 * than what has versions.
 */
export function tagVersion(request: IncomingMessage, response: ServerResponse, version: number): void {
  delete request.headers['if-none-match'];
  response.setHeader('ETag', `"${version}"`);
}

/**
 * The versions that `If-Match` names (RFC 9110, section 13.1.1); undefined: any will do. A weak tag, or one that is none
 * of ours, matches nothing.
 */
export function versionsOf({ headers }: IncomingMessage): readonly number[] | undefined {
  const { 'if-match': tags } = headers;
  if (tags === undefined || tags.trim() === '*') return undefined;
  return tags.split(',').flatMap((tag) => {
    const [, weak, text = ''] = TAG.exec(tag.trim()) ?? [];
    return weak === undefined && /^[1-9]\d{0,8}$/.test(text) ? [Number(text)] : [];
  });
}
