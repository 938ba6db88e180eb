import type { Endpoint, FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { EventEmitter } from 'node:events';
import type { Claim } from './function.repository.js';

/** What the parts of one manager tell each other of functions, ahead of the row. */
export interface FunctionEvents {
  /**
   * A step has seen these endpoints ready and is writing them down: calls that wait may have them. None takes back what
   * was published before.
   */
  ready: [id: FunctionId, endpoints: readonly Endpoint[]];
  /** The step has written down what it saw, or never will: from now on the row counts. */
  recorded: [id: FunctionId];
  /**
   * The statement that wrote what is wanted has claimed the row too: its step begins in this manager, in a taken slot.
   */
  claimed: [claim: Claim, leaseMs: number];
  /** A slot for a step was given back without a step. */
  slotFree: [];
}

/**
 * Where the gateway and the reconciler meet beside the row. Events are delivered at once and never kept, so a
 * subscriber that comes late has missed nothing that its row doesn't say.
 */
@Injectable()
export class FunctionBus extends EventEmitter<FunctionEvents> {}
