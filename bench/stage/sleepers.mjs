import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';

const PAYLOAD = JSON.parse(ECHO_CALL.body).payload;

/** A manager with so many functions that can be put to sleep and woken by a call. */
export async function openSleepers(stage, count, options) {
  const manager = await stage.manager(options);
  const ids = [];
  while (ids.length < count) ids.push(await manager.upload(ECHO, { max_replicas: 1 }));
  return { manager, ids };
}

/** Throws unless it is answered well. */
export async function callSleeper(manager, id) {
  const { status, text } = await manager.call(id, PAYLOAD);
  if (status !== 200) throw new Error(`A call was answered ${status}: ${text}`);
}
