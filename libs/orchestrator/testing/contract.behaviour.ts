import { setTimeout as delay } from 'node:timers/promises';
import type { Workload } from '../workload.js';
import {
  CONFIDING,
  IMPORTING,
  NOT_LOADABLE,
  NOT_LOADABLE_LINE,
  NOT_LOADABLE_TYPE,
  SLEEPY,
  SLOW_LOAD_MS,
  SLOW_TO_LOAD,
  TALKATIVE,
} from './contract.handlers.js';
import { LAYER_WORDS } from './contract.layers.js';
import { ECHO, type MemoryBehaviour } from './memory.replica.js';

/** Plays the suite's own handler files in memory. */
export function contractBehaviour(workload: Workload): MemoryBehaviour {
  const source = workload.code.toString('utf8');
  switch (source) {
    case SLEEPY.source:
      return { call: sleep };
    case SLOW_TO_LOAD.source:
      return { ...ECHO, loadMs: SLOW_LOAD_MS };
    case NOT_LOADABLE.source: {
      const message = `${NOT_LOADABLE_TYPE}: 'region'`;
      return {
        ...ECHO,
        notLoadable: { message, detail: 'Traceback (most recent call last): …', line: NOT_LOADABLE_LINE },
      };
    }
    case IMPORTING.source: {
      const word = LAYER_WORDS.get(workload.layer?.digest ?? '');
      if (word !== undefined) return { call: () => word };
      const message = "ModuleNotFoundError: No module named 'contract_words'";
      return { ...ECHO, notLoadable: { message, detail: message, line: 1 } };
    }
    case CONFIDING.source:
      return { call: (payload) => workload.secrets?.variables[payload] ?? workload.secrets?.files[payload] };
    case TALKATIVE.source:
      return {
        call: (payload, { print }) => {
          print(`said ${payload}`);
          return payload;
        },
      };
    default: {
      const word = /^WORD = "(.*)"/.exec(source)?.[1];
      return word === undefined ? ECHO : { call: (payload) => `${word}:${payload}` };
    }
  }
}

const sleep: MemoryBehaviour['call'] = async (payload, { memory, signal }) => {
  const sleeping = (memory.get('sleeping') as number | undefined) ?? 0;
  if (payload === 'busy') return sleeping;
  memory.set('sleeping', sleeping + 1);
  try {
    await delay(Number(payload) * 1000, undefined, { signal });
  } finally {
    memory.set('sleeping', (memory.get('sleeping') as number) - 1);
  }
  return 'slept';
};
