import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { CONFIG_MAP, DEPLOYMENT, POD } from '#libs/orchestrator-kubernetes/kinds.js';
import pg from 'pg';
import { docker } from '../docker/support/docker-tests.js';
import type { SmallRoom } from '../kubernetes/support/small-room.js';
import type { Answer } from './http.js';
import type { TestManager } from './manager.js';
import type { Stage } from './stage.js';

/** An entry of SECRETS_KEYS. */
export const newKey = (id: string) => `${id}:${randomBytes(32).toString('base64')}`;

/** Answers the variable or the file of this name, and `who` it is; is careless with DB_PASSWORD where it is told to. */
export const READING = `import os
import uuid

ME = uuid.uuid4().hex


def handle(payload):
    if payload == "who":
        return ME
    if payload == "raise":
        raise ValueError(f"not with {os.environ['DB_PASSWORD']}")
    if payload == "print":
        return print("it is", os.environ["DB_PASSWORD"], flush=True)
    if payload in os.environ:
        return os.environ[payload]
    with open(os.path.join(os.environ["FAAS_SECRETS_DIR"], payload)) as file:
        return file.read()
`;

export function putSecret(manager: TestManager, name: string, value: string): Promise<Answer> {
  return manager.send(`/secrets/${name}`, { method: 'PUT', body: JSON.stringify({ value }) });
}

export const resultOf = (answer: Answer) => (answer.json() as { result: unknown }).result;

/**
 * Calls a function again and again until it is told to stop; tells what failed, what was answered, and by which
 * revisions.
 *
 * @param choice such as `?revision=1`
 */
export function callingOn(manager: TestManager, id: string, payload: string, choice = '') {
  const calling = new AbortController();
  const failures: string[] = [];
  const answers = new Set<unknown>();
  const revisions = new Set<unknown>();
  const path = `/functions/${id}/execute${choice}`;
  const caller = async () => {
    while (!calling.signal.aborted) {
      const answer = await manager.send(path, { method: 'POST', body: JSON.stringify({ payload }) });
      if (answer.status === 200) answers.add(resultOf(answer));
      else failures.push(answer.text);
      revisions.add(answer.headers['x-faas-revision']);
      await delay(20);
    }
  };
  const callers = [caller(), caller()];
  const stop = async () => {
    calling.abort();
    await Promise.all(callers);
    return { failures, answers, revisions };
  };
  return { stop };
}

/** Where somebody who can look at everything but a worker's memory finds the value: nowhere, if all is well. */
export async function shownAnywhere(stage: Stage, id: string, value: string): Promise<string[]> {
  const { manager } = stage;
  const routes = ['/secrets', '/functions', `/functions/${id}`, `/functions/${id}/revisions`, `/functions/${id}/logs`];
  const answers = await Promise.all(routes.map(async (route) => [route, (await manager.send(route)).text] as const));
  const places = [
    ...answers,
    ['the manager’s log', manager.log] as const,
    ['a dump of the database', await dumpOf(stage.databaseUrl)] as const,
    ...(await shownByEngine(stage)),
  ];
  const forms = [value, Buffer.from(value).toString('hex'), Buffer.from(value).toString('base64')];
  return places.filter(([, text]) => forms.some((form) => text.includes(form))).map(([place]) => place);
}

/** Every row of every table as text, in which bytes are hexadecimal. */
async function dumpOf(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows: tables } = await client.query<{ name: string }>(
      `SELECT quote_ident(table_name) AS name FROM information_schema.tables WHERE table_schema = 'public'`,
    );
    const texts: string[] = [];
    for (const { name } of tables) {
      const { rows } = await client.query<{ row: string }>(`SELECT ${name}::text AS row FROM ${name}`);
      texts.push(...rows.map(({ row }) => row));
    }
    return texts.join('\n');
  } finally {
    await client.end();
  }
}

async function shownByEngine({ engine, room }: Stage): Promise<(readonly [string, string])[]> {
  switch (engine.name) {
    case 'docker': {
      const names = await room.workers();
      const shown = await Promise.all(names.map((name) => docker.getContainer(name.replace(/^\//, '')).inspect()));
      return [['docker inspect', JSON.stringify(shown)]];
    }
    case 'kubernetes': {
      const { cluster } = room as SmallRoom;
      const objects = await Promise.all([POD, DEPLOYMENT, CONFIG_MAP].map((kind) => cluster.ours(kind)));
      return [['objects of the cluster', JSON.stringify(objects)]];
    }
    case 'process': {
      const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
      const read = (path: string) => readFile(path, 'utf8').catch(() => '');
      // Of a handler's own process the environment is in its memory alone.
      const shown = pids.flatMap((pid) => [read(`/proc/${pid}/environ`), read(`/proc/${pid}/cmdline`)]);
      return [['environments and arguments of processes', (await Promise.all(shown)).join('\n')]];
    }
  }
}
