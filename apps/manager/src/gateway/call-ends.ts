import { Injectable } from '@nestjs/common';
import { randomUUIDv7 } from 'node:crypto';
import type { CallTiming } from './call-timing.js';

/** How calls come in. What is kept is the index: new ones come last. */
export const CALL_KINDS = ['execute', 'http', 'later', 'schedule', 'run'] as const;
export type CallKind = (typeof CALL_KINDS)[number];

/** Which attempt of a call for later it is. */
export interface AttemptOf {
  readonly invocation: string;
  readonly attempt: number;
  /** It was ended here to be made anew elsewhere, as if it had never begun. */
  readonly isGivenBack?: boolean;
}

/** What a handler was given and what came out, as the worker sent and answered it. */
export interface Exchanged {
  readonly body: Buffer;
  readonly result: Buffer | undefined;
  /** Members that nobody is to read. */
  readonly redact: readonly string[];
}

/** A call that is over. */
export interface EndedCall {
  readonly id: string;
  readonly kind: CallKind;
  readonly requestId: string;
  readonly timing: CallTiming;
  /** Undefined where there was an answer; else the problem's code and sentence. */
  readonly code: string | undefined;
  readonly detail: string | undefined;
  /** `performance.now()` milliseconds. */
  readonly endedAt: number;
  readonly createdBy: string | null;
  readonly attemptOf: AttemptOf | undefined;
  readonly exchanged: Exchanged | undefined;
}

/** Whoever keeps calls hears here of each that ends. It is on the path of every call: a listener does next to nothing. */
@Injectable()
export class CallEnds {
  private listener: ((call: EndedCall) => void) | undefined;

  listen(listener: (call: EndedCall) => void): void {
    this.listener = listener;
  }

  /** Gives a call its id, where anybody keeps it: that of its request if no other call can have that. */
  begin(timing: CallTiming, freshId?: string): void {
    if (this.listener !== undefined) timing.id = freshId ?? randomUUIDv7();
  }

  tell(call: EndedCall): void {
    this.listener?.(call);
  }
}
