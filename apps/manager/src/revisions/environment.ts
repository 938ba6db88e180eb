import { isJsonObject } from '#libs/json/json-scan.js';

/** In bytes of UTF-8, names and values together. Programs may get more, but a whole request of it must stay small. */
export const LARGEST_ENVIRONMENT = 32 * 1024;

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const LONGEST_NAME = 255;
/**
 * What the worker itself goes by, and what an interpreter or its loader reads only when it starts: a worker that waited
 * for its function has been started before.
 */
const RESERVED =
  /^(FAAS_|PYTHON|LD_|LC_|MALLOC_|LANG$|GLIBC_TUNABLES$|HANDLER_FUNCTION$|PATH$|HOME$|USER$|LOGNAME$|TMPDIR$)/;
/** Which event loop runs the handler. */
const FREE = 'FAAS_EVENT_LOOP';

/** Why no variable may have this name; undefined: one may. */
export function variableFault(name: string): string | undefined {
  if (name.length > LONGEST_NAME) return `is longer than ${LONGEST_NAME} characters`;
  if (!NAME.test(name)) return 'must have letters, digits and underscores, and not begin with a digit';
  return RESERVED.test(name) ? 'is reserved for the worker and for Python' : undefined;
}

/** Why a value can't be the variables of a function; undefined: it can. */
export function environmentFault(environment: unknown): string | undefined {
  if (!isJsonObject(environment)) {
    return 'env must be a JSON object of strings, such as {"GREETING": "Hello"}.';
  }
  let bytes = 0;
  for (const [name, value] of Object.entries(environment)) {
    const shown = JSON.stringify(name.slice(0, 64));
    const fault = name === FREE ? undefined : variableFault(name);
    if (fault !== undefined) return `env: the name ${shown} ${fault}.`;
    if (typeof value !== 'string') return `env: the value of ${shown} must be a string.`;
    if (value.includes('\0') || !value.isWellFormed())
      return `env: the value of ${shown} holds characters that are no text.`;
    if (name === FREE && !['uvloop', 'asyncio'].includes(value)) return `env: ${FREE} must be uvloop or asyncio.`;
    bytes += name.length + Buffer.byteLength(value);
  }
  if (bytes <= LARGEST_ENVIRONMENT) return undefined;
  return `env has ${bytes} bytes, and may have ${LARGEST_ENVIRONMENT}: put what is large into the code, or where the code finds it.`;
}
