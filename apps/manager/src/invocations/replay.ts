import { createHash } from 'node:crypto';
import type { KeptCallWithPayload } from '../history/call.js';
import type { Route } from '../gateway/router.js';
import type { Choice } from '../traffic/traffic.js';
import { ReplayImpossible } from './errors.js';
import { type Invocation, PRIORITIES, type Replayed } from './invocation.js';
import type { ResolvedPolicy } from './invocation-policy.js';
import { packed, type RequestHead, unpacked } from './kept-http.js';
import type { NewInvocation } from './invocation.repository.js';

/** What a call is made anew of. */
export interface Replay extends Pick<NewInvocation, 'functionId' | 'priority' | 'retry' | 'maxAgeMs' | 'http'> {
  /** The revision that ran it, or would have. */
  readonly revision: number;
  /** `{"payload": "…"}` */
  readonly body: Buffer;
  readonly payloadBytes: number;
}

export function replayOfInvocation(
  { functionId, priority, retry, payloadBytes, revision, enqueuedRevision, http }: Invocation,
  { body, maxAgeMs }: Pick<NewInvocation, 'body' | 'maxAgeMs'>,
): Replay {
  return { functionId, priority, retry, maxAgeMs, revision: revision ?? enqueuedRevision, http, body, payloadBytes };
}

/** What the handler of a call at once was given. Throws {@link ReplayImpossible} where it isn't there as it was. */
export function payloadOf({ id, kind, functionId, payload, isRedacted }: KeptCallWithPayload): Buffer {
  if (kind === 'run')
    throw new ReplayImpossible(id, 'nothing is kept of code that was run once. Send it to POST /runs.');
  if (kind === 'http') throw new ReplayImpossible(id, 'requests over HTTP are not kept.');
  if (payload === null) {
    throw new ReplayImpossible(
      id,
      `its payload was not kept. PATCH /functions/${functionId} {"history": {"payloads": 1}} keeps those of calls to come, up to HISTORY_PAYLOAD_BYTES.`,
    );
  }
  if (isRedacted === true) {
    throw new ReplayImpossible(
      id,
      `members of its payload were redacted. PATCH /functions/${functionId} {"history": {"redact": []}} keeps those of calls to come.`,
    );
  }
  return payload;
}

/** With what its function says of calls that say nothing of themselves. */
export function replayOfCall(
  { functionId, revision }: KeptCallWithPayload,
  payload: Buffer,
  { retry, maxAgeMs }: Pick<ResolvedPolicy, 'retry' | 'maxAgeMs'>,
): Replay {
  const body = Buffer.from(JSON.stringify({ payload: payload.toString() }));
  const priority = PRIORITIES.indexOf('normal');
  return { functionId, priority, retry, maxAgeMs, revision, http: null, body, payloadBytes: payload.length };
}

/** The newest revision that has calls where they are divided; else whichever has them when the call runs. */
export function choiceOfReplay(wanted: Replayed, { revision }: Replay, { split }: Route): Choice | null {
  if (wanted === 'same') return { revision };
  if (split === undefined) return null;
  return { revision: Math.max(...split.targets.filter(({ percent }) => percent > 0).map((one) => one.revision)) };
}

/** By which a replay that comes again is told from any other request with its key. */
export function digestOfReplay(id: string, wanted: Replayed): Buffer {
  return createHash('sha256').update(`replay ${id} ${wanted}`).digest();
}

/** The request of an HTTP call, whose lines in the log have another invocation's id from now on. */
export function underId(kept: Buffer, id: string): Buffer {
  const { head, body } = unpacked<RequestHead>(kept);
  const headers = head.headers.map((text, index) =>
    index % 2 === 1 && head.headers[index - 1] === 'x-request-id' ? id : text,
  );
  return packed({ ...head, headers }, body);
}
