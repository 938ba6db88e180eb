import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { IDLE_MS, type Kind } from '../../crash/support/handlers.js';
import type { World } from './world.js';

/** What there is, as far as it decides which act is possible: names in use. */
interface Model {
  readonly names: number[];
  next: number;
}

type Act = fc.AsyncCommand<Model, World>;

const MOST_FUNCTIONS = 4;
const KINDS: readonly Kind[] = ['steady', 'sleepy', 'elastic'];
const NAPS = [0, 0, 0.02, 0.1, 0.4, (2 * IDLE_MS) / 1_000];

/** Does something to one of the functions there are. */
function onOne(text: string, choice: number, run: (name: number, world: World, model: Model) => unknown): Act {
  return {
    check: ({ names }) => names.length > 0,
    run: async (model, world) => {
      const name = model.names[choice % model.names.length] as number;
      world.note(`${text} (${name})`);
      await run(name, world, model);
    },
    toString: () => `${text} [${choice}]`,
  };
}

function upload(kind: Kind, via: number): Act {
  return {
    check: ({ names }) => names.length < MOST_FUNCTIONS,
    run: async (model, world) => {
      const name = (model.next += 1);
      await world.upload(name, kind, via);
      model.names.push(name);
    },
    toString: () => `upload ${kind}`,
  };
}

function idle(ms: number): Act {
  return { check: () => true, run: () => delay(ms), toString: () => `idle ${ms} ms` };
}

const kind = fc.constantFrom<Kind>('steady', 'sleepy', 'sleepy', 'elastic');
const choice = fc.nat(MOST_FUNCTIONS * 3);
const via = fc.nat(1);
const victim = fc.constantFrom('worker' as const, 'runner' as const);
const calls = fc
  .record({ choice, count: fc.constantFrom(1, 1, 2, 5, 12), nap: fc.constantFrom(...NAPS) })
  .map(({ choice: which, count, nap }) =>
    onOne(`call ${count} times for ${nap} s`, which, (name, world) => world.call(name, count, nap)),
  );

/** Random acts; calls and idle moments are the most frequent. */
export const ACT: fc.Arbitrary<Act> = fc.oneof(
  calls,
  calls,
  calls,
  // Around the moment at which a sleepy function falls asleep, above all.
  fc.integer({ min: 0, max: IDLE_MS + 450 }).map(idle),
  fc.integer({ min: IDLE_MS - 100, max: IDLE_MS + 300 }).map(idle),
  fc.tuple(kind, via).map(([of, through]) => upload(of, through)),
  fc
    .tuple(choice, kind, via)
    .map(([which, of, through]) => onOne(`update to ${of}`, which, (name, world) => world.update(name, of, through))),
  fc.tuple(choice, via).map(([which, through]) =>
    onOne('remove', which, (name, world, model) => {
      model.names.splice(model.names.indexOf(name), 1);
      world.remove(name, through);
    }),
  ),
  fc.tuple(choice, victim).map(([which, of]) => onOne(`kill a ${of}`, which, (name, world) => world.kill(name, of))),
  fc.tuple(choice, victim, fc.integer({ min: 0, max: 250 })).map(([which, of, ms]) =>
    onOne(`kill a ${of} ${ms} ms after 3 calls`, which, async (name, world) => {
      world.call(name, 3, 0.3);
      await delay(ms);
      world.kill(name, of);
    }),
  ),
);

/** One function of each kind to begin with. */
export async function populated(world: World): Promise<{ model: Model; real: World }> {
  const model: Model = { names: [], next: 0 };
  await Promise.all(KINDS.map((of, via) => upload(of, via).run(model, world)));
  return { model, real: world };
}
