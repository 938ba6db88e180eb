import type { CallbacksConfig, InvocationsConfig } from '#libs/config/config.js';
import { INVOCATIONS_CONFIG } from '#libs/config/config.module.js';
import { within } from '#libs/deadlines/within.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { createHmac } from 'node:crypto';
import { Client } from 'undici';
import { STRUCTURED } from '../gateway/cloud-event.js';
import { allowedLookup, checkLiteral, Lookups, portOf } from './callback-target.js';
import { invocationJson } from './dto.js';
import { type CallbackStatus, jittered } from './invocation.js';
import { InvocationMetrics } from './invocation-metrics.js';
import { type DueCallback, InvocationRepository } from './invocation.repository.js';
import { InvocationSignals } from './invocation-signals.js';

const AT_ONCE = 16;
/** Of one function, so that a target that takes long leaves places for those of others. */
const PER_FUNCTION = 4;
/** A few times as long as one attempt may take: whoever claimed it and was killed leaves it to others then. */
const LEASES = 3;
const POLL_MS = 5_000;
const MOST_BACKOFF_MS = 3_600_000;
const HEADER_BYTES = 16 * 1024;
const ANSWER_BYTES = 16 * 1024;
const LONGEST_ERROR = 300;
/** The target wants none any more (RFC 9110, section 15.5.11). */
const GONE = 410;
const JSON_TYPE = 'application/json';

/** Tells those who want to know of calls for later that have ended, as Standard Webhooks has it. */
@Injectable()
export class CallbackSender implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly config: CallbacksConfig;
  private readonly lookups: Lookups;
  private readonly sending = new Map<Promise<void>, FunctionId>();
  private readonly stopping = new AbortController();
  private poll: NodeJS.Timeout | undefined;
  private claiming = false;
  private claimAgain = false;

  constructor(
    private readonly repository: InvocationRepository,
    private readonly metrics: InvocationMetrics,
    signals: InvocationSignals,
    @Inject(INVOCATIONS_CONFIG) { callbacks }: InvocationsConfig,
    @InjectPinoLogger(CallbackSender.name) private readonly logger: PinoLogger,
  ) {
    this.config = callbacks;
    this.lookups = new Lookups(callbacks.timeoutMs);
    signals.onCallback(() => this.kick());
  }

  onApplicationBootstrap(): void {
    if (this.config.secrets.length > 0) this.poll = setInterval(() => this.kick(), POLL_MS);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.poll);
    this.stopping.abort();
    await Promise.allSettled(this.sending.keys());
  }

  private kick(): void {
    if (this.stopping.signal.aborted || this.config.secrets.length === 0) return;
    if (this.claiming) {
      this.claimAgain = true;
      return;
    }
    this.claiming = true;
    void this.claim()
      .catch((error: unknown) => this.report(error))
      .finally(() => {
        this.claiming = false;
        if (this.claimAgain) this.kick();
      });
  }

  private async claim(): Promise<void> {
    let found = 0;
    do {
      this.claimAgain = false;
      const most = AT_ONCE - this.sending.size;
      if (most <= 0) return;
      const byFunction = Map.groupBy(this.sending.values(), (functionId) => functionId);
      const underWay = new Map([...byFunction].map(([functionId, calls]) => [functionId, calls.length]));
      const due = await this.repository.claimCallbacks(
        { most, perFunction: PER_FUNCTION, underWay },
        this.config.timeoutMs * LEASES,
      );
      for (const one of due) this.begin(one);
      // The first that are due may all be of a few functions, which have no place for more.
      found = due.length;
    } while (found > 0 && !this.stopping.signal.aborted);
  }

  private begin(call: DueCallback): void {
    const sending = this.deliver(call)
      .catch((error: unknown) => this.report(error))
      .finally(() => {
        this.sending.delete(sending);
        this.kick();
      });
    this.sending.set(sending, call.functionId);
  }

  private async deliver(call: DueCallback): Promise<void> {
    const { timeoutMs, maxAttempts, backoffMs } = this.config;
    const bounds = { ms: timeoutMs, signal: this.stopping.signal };
    const fault = await within('it', bounds, (signal) => this.send(call, signal)).catch(faultOf);
    if (this.stopping.signal.aborted && fault !== undefined) return;
    const { callbackAttempt: attempt, functionId } = call;
    if (fault === undefined) {
      await this.record(call, 'delivered');
      return;
    }
    const error = fault.error.slice(0, LONGEST_ERROR);
    const isLast = fault.isFinal || attempt >= maxAttempts;
    this.logger.info({ functionId, invocation: call.id, attempt, reason: error, isLast }, 'callback not delivered');
    if (isLast) await this.record(call, 'failed', { error });
    else {
      const inMs = jittered(backoffMs, attempt - 1, MOST_BACKOFF_MS, Math.random());
      await this.record(call, 'waiting', { error, inMs });
      setTimeout(() => this.kick(), Math.min(inMs, POLL_MS) + 1).unref();
    }
  }

  private async record(
    call: DueCallback,
    status: CallbackStatus,
    more?: { readonly error: string; readonly inMs?: number },
  ): Promise<void> {
    await this.repository.recordCallback(call, status, more);
    this.metrics.calledBack(call.functionId, status);
  }

  /** Undefined: it was delivered. */
  private async send(call: DueCallback, signal: AbortSignal): Promise<Fault | undefined> {
    const url = new URL(call.callbackUrl ?? '');
    const { allow, timeoutMs } = this.config;
    checkLiteral(url, allow);
    const client = new Client(url.origin, {
      connect: { lookup: allowedLookup(portOf(url), allow, this.lookups.lookup), timeout: timeoutMs },
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      maxHeaderSize: HEADER_BYTES,
      pipelining: 1,
    });
    try {
      const { headers, body } = messageOf(call);
      const { statusCode, body: answer } = await client.request({
        method: 'POST',
        path: `${url.pathname}${url.search}`,
        headers: { ...headers, 'user-agent': 'service-faas', ...this.signed(call.callbackId, body) },
        body,
        signal,
      });
      // Redirects are not followed: they are answers like any other that isn't 2xx.
      await answer.dump({ limit: ANSWER_BYTES, signal }).catch(() => undefined);
      if (statusCode >= 200 && statusCode < 300) return undefined;
      return { error: `it answered ${statusCode}`, isFinal: statusCode === GONE };
    } finally {
      client.destroy().catch(() => undefined);
    }
  }

  /** https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
  private signed(id: string, body: Buffer): Record<string, string> {
    const timestamp = String(Math.floor(Date.now() / 1_000));
    const signatures = this.config.secrets.map((secret) => {
      const hmac = createHmac('sha256', secret).update(`${id}.${timestamp}.`).update(body);
      return `v1,${hmac.digest('base64')}`;
    });
    return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') };
  }

  private report(error: unknown): void {
    if (error instanceof DatabaseUnavailable) this.logger.warn({ reason: error.message }, 'callbacks put off');
    else this.logger.error({ err: error }, 'callbacks put off');
  }
}

/** What is sent: the call as JSON, or as a CloudEvent of it in one of the modes of its HTTP binding. */
export function messageOf(call: DueCallback): { readonly headers: Record<string, string>; readonly body: Buffer } {
  const shown = invocationJson(call, call.result);
  const event = {
    specversion: '1.0',
    id: call.callbackId,
    source: `/functions/${call.functionId}`,
    type: `service-faas.invocation.${call.status}`,
    subject: call.id,
    time: (call.endedAt ?? call.dueAt).toISOString(),
  };
  switch (call.callbackFormat) {
    case 'plain':
      return { headers: { 'content-type': JSON_TYPE }, body: shown };
    case 'binary': {
      const attributes = Object.entries(event).map(([name, value]) => [`ce-${name}`, value]);
      return { headers: { 'content-type': JSON_TYPE, ...Object.fromEntries(attributes) }, body: shown };
    }
    case 'structured': {
      const before = JSON.stringify({ ...event, datacontenttype: JSON_TYPE }).slice(0, -1);
      const body = Buffer.concat([Buffer.from(`${before},"data":`), shown, Buffer.from('}')]);
      return { headers: { 'content-type': STRUCTURED }, body };
    }
  }
}

/** Why an attempt has failed; `isFinal`: another one makes no sense. */
interface Fault {
  readonly error: string;
  readonly isFinal: boolean;
}

function faultOf(error: unknown): Fault {
  return { error: (error as Error).message, isFinal: false };
}
