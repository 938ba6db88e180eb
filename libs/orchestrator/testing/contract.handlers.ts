/** A handler file the contract suite uploads. Each is recognised by its text, so that a fake engine can play it. */
export interface ContractHandler {
  readonly source: string;
  readonly functionName: string;
}

/** Answers `<word>:<payload>`, so that a test can tell which revision answered. */
export function answering(word: string): ContractHandler {
  return {
    functionName: 'handle',
    source: `WORD = "${word}"\n\n\ndef handle(payload: str) -> str:\n    return f"{WORD}:{payload}"\n`,
  };
}

/** `busy` answers how many calls sleep right now; any other payload is a number of seconds to sleep. */
export const SLEEPY: ContractHandler = {
  functionName: 'handle',
  source: `import time

sleeping = []


def handle(payload: str):
    if payload == "busy":
        return len(sleeping)
    sleeping.append(payload)
    try:
        time.sleep(float(payload))
    finally:
        sleeping.remove(payload)
    return "slept"
`,
};

/** Milliseconds that `SLOW_TO_LOAD` takes: longer than an engine needs to answer `ensure`. */
export const SLOW_LOAD_MS = 2_500;

export const SLOW_TO_LOAD: ContractHandler = {
  functionName: 'handle',
  source: `import time

time.sleep(${SLOW_LOAD_MS / 1000})


def handle(payload: str) -> str:
    return payload
`,
};

/** Raises while it is imported, on the line `NOT_LOADABLE_LINE`. */
export const NOT_LOADABLE: ContractHandler = {
  functionName: 'handle',
  source: `SETTINGS = {}

REGION = SETTINGS["region"]


def handle(payload: str) -> str:
    return payload
`,
};

export const NOT_LOADABLE_LINE = 3;
export const NOT_LOADABLE_TYPE = 'KeyError';

/** Prints `said <payload>` once for each call. */
export const TALKATIVE: ContractHandler = {
  functionName: 'handle',
  source: `def handle(payload: str) -> str:
    print(f"said {payload}", flush=True)
    return payload
`,
};

/** Answers the word of its layer. */
export const IMPORTING: ContractHandler = {
  functionName: 'handle',
  source: `from contract_words import WORD


def handle(payload: str) -> str:
    return WORD
`,
};

/** Answers what its variable or its file of this name holds. */
export const CONFIDING: ContractHandler = {
  functionName: 'handle',
  source: `import os


def handle(payload: str) -> str:
    if payload in os.environ:
        return os.environ[payload]
    with open(os.path.join(os.environ["FAAS_SECRETS_DIR"], payload)) as file:
        return file.read()
`,
};
