import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { killProcess } from '../../crash/support/processes.js';
import { answerOf, type Kind, newHandler, payloadOf } from '../../crash/support/handlers.js';
import { Identities } from '../../crash/support/identities.js';
import { Random } from '../../crash/support/random.js';
import type { TestManager } from '../../support/manager.js';
import { Deployed } from './deployed.js';
import { callOnce } from './single-answer.js';
import { workersOf } from './workers.js';

const TIMEOUT_MS = 5_000;
/** The longest a call may take: waiting for a slot, its time limit, the post-mortem, and a machine that is busy. */
const CALL_MS = 30_000;
/** A function whose workers end more often in a short time is rightly put aside. */
const MOST_KILLS = 3;

/** What acts are done to and what comes of them: real managers with real workers. */
export class World {
  private readonly identities = new Identities();
  private readonly deployed = new Map<number, Deployed>();
  private readonly underWay = new Set<Promise<void>>();
  private history: string[] = [];
  private faults: string[] = [];
  private began = performance.now();
  private calls = 0;
  /** How all calls ended. */
  readonly outcomes = new Map<string, number>();

  constructor(
    private readonly managers: readonly TestManager[],
    private readonly runtimeDir: string,
    private readonly witness: string,
  ) {}

  /** Lets acts be done and sees what has come of them. */
  async lives(acts: () => Promise<void>): Promise<void> {
    this.history = [];
    this.faults = [];
    this.began = performance.now();
    await acts().catch((error: unknown) => this.fault(String(error)));
    await this.settle().catch((error: unknown) => this.fault(String(error)));
    if (this.faults.length > 0) throw new Error([...this.faults, ...this.history].join('\n'));
  }

  async upload(name: number, kind: Kind, via: number): Promise<void> {
    const handler = newHandler(new Random(`${name}/${kind}/${via}`), kind, this.witness);
    const { code, functionName, scaling } = handler;
    const fields = Object.fromEntries(Object.entries(scaling).map(([key, value]) => [key, Number(value)]));
    const { id } = await this.manager(via).add(code.toString('utf8'), {
      name: functionName,
      timeoutMs: TIMEOUT_MS,
      ...fields,
    });
    this.note(`${name} is ${id} (${kind}, ${handler.token})`);
    this.deployed.set(name, new Deployed(id, handler));
  }

  /** Other code under the same name: the new one first, then the old one goes, while calls of both are under way. */
  async update(name: number, kind: Kind, via: number): Promise<void> {
    const former = this.of(name);
    await this.upload(name, kind, via);
    this.removeInTheBackground(former, via + 1);
  }

  remove(name: number, via: number): void {
    const leaving = this.of(name);
    this.deployed.delete(name);
    this.removeInTheBackground(leaving, via);
  }

  /** So many calls at once, none of them waited for. */
  call(name: number, count: number, nap: number): void {
    const target = this.of(name);
    for (let index = 0; index < count; index += 1) this.follow(this.callOnce(target, nap, index));
  }

  kill(name: number, victim: 'worker' | 'runner'): void {
    const target = this.of(name);
    const [worker] = workersOf(this.runtimeDir, target.id);
    const pid = victim === 'worker' ? worker?.supervisor : worker?.runners[0];
    if (pid === undefined || target.killed >= MOST_KILLS) return;
    target.loses();
    killProcess(pid);
    this.note(`killed a ${victim} of ${target.id} (pid ${pid})`);
  }

  /** All that was begun has ended, all that should be there answers, and nothing else is there. */
  private async settle(): Promise<void> {
    await this.ended();
    for (const name of this.deployed.keys()) this.call(name, 2, 0);
    await this.ended();
    for (const name of this.deployed.keys()) this.remove(name, name);
    await this.ended();
    const listed = await this.manager(0).send('/functions');
    if (listed.text !== '[]') this.fault(`functions are left: ${listed.text}`);
    for (const name of (await readdir(this.witness)).filter((one) => one.endsWith('.again'))) {
      this.fault(`RUN TWICE: the call ${name}`);
    }
  }

  note(text: string): void {
    this.history.push(`${(performance.now() - this.began).toFixed(0).padStart(6)} ms  ${text}`);
  }

  private fault(text: string): void {
    this.note(`FAULT ${text}`);
    this.faults.push(text);
  }

  private of(name: number): Deployed {
    const found = this.deployed.get(name);
    if (found === undefined) throw new Error(`There is no function ${name}.`);
    return found;
  }

  private manager(via: number): TestManager {
    return this.managers[via % this.managers.length] as TestManager;
  }

  private follow(work: Promise<void>): void {
    const followed = work
      .catch((error: unknown) => this.fault(String(error)))
      .finally(() => this.underWay.delete(followed));
    this.underWay.add(followed);
  }

  private async ended(): Promise<void> {
    while (this.underWay.size > 0) await Promise.all(this.underWay);
  }

  private removeInTheBackground(leaving: Deployed, via: number): void {
    leaving.leaves();
    this.note(`remove ${leaving.id}`);
    const work = async () => {
      const { status, text } = await this.manager(via).remove(leaving.id);
      if (status !== 204) this.fault(`the removal of ${leaving.id} got ${status} ${text}`);
      else this.note(`removed ${leaving.id}`);
    };
    this.follow(work());
  }

  private async callOnce(target: Deployed, nap: number, via: number): Promise<void> {
    const { id, handler } = target;
    const text = `${handler.token}-${(this.calls += 1)}`;
    const sentAt = performance.now();
    const answer = await callOnce(this.manager(via).port, id, payloadOf(nap, text), CALL_MS);
    const answeredAt = performance.now();
    if (typeof answer === 'string') return this.fault(`a call of ${id} was ${answer}`);
    const { code, status } = answer;
    const outcome = code ?? String(status);
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    if (status === 200) return this.checkResult(target, text, answer.body);
    if (!target.explains(answer, sentAt, answeredAt)) {
      this.fault(
        `a call of ${id} sent ${(answeredAt - sentAt).toFixed(0)} ms ago got ${status} ${answer.body.toString()}`,
      );
    }
    if (Deployed.neverRan(answer) && (await this.ran(text))) this.fault(`a call of ${id} ran and got ${outcome}`);
  }

  private async checkResult(target: Deployed, text: string, body: Buffer): Promise<void> {
    const answer = answerOf(target.handler, text, body);
    if (answer === undefined) return this.fault(`a call of ${target.id} got a WRONG ANSWER: ${body.toString()}`);
    const objection = this.identities.objectionTo(target, answer);
    if (objection !== undefined) this.fault(objection);
    if (!(await this.ran(text))) this.fault(`a call of ${target.id} was answered and never ran`);
  }

  private async ran(text: string): Promise<boolean> {
    return access(join(this.witness, text)).then(
      () => true,
      () => false,
    );
  }
}
