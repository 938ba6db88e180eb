import type { FunctionDetailDto, FunctionDto, InvocationPolicyDto, MetadataDto } from '../client/index.js';
import { answered, type Connection } from '../connection.js';
import { Failure } from '../failure.js';
import type { Plan, Wanted } from './plan.js';
import type { InvocationDefaults } from './settings.js';

export interface Deployed {
  readonly action: 'added' | 'revised';
  readonly function: FunctionDto;
  /** Of an added function it is the first. */
  readonly revision: number;
  /** False: calls are divided among revisions, and this one has none of them. */
  readonly serving: boolean;
}

/** Adds the function where there is none of this name, and makes a revision otherwise. */
export async function deploy(connection: Connection, plan: Plan): Promise<Deployed> {
  const former = await find(connection, plan.name);
  if (former !== undefined) return revise(connection, plan, former);
  try {
    return await add(connection, plan);
  } catch (error) {
    // Somebody else was faster.
    const isTaken = error instanceof Failure && error.problem?.code === 'name_taken';
    const other = isTaken ? await find(connection, plan.name) : undefined;
    if (other === undefined) throw error;
    return revise(connection, plan, other);
  }
}

async function find({ client, api }: Connection, name: string): Promise<FunctionDetailDto | undefined> {
  try {
    return (await answered(api.getFunction({ client, path: { id: name } }))).data;
  } catch (error) {
    if (error instanceof Failure && error.problem?.code === 'function_not_found') return undefined;
    throw error;
  }
}

async function add({ client, api }: Connection, plan: Plan): Promise<Deployed> {
  const { name, code, handler = 'handle', settings } = plan;
  const { description, public: isPublic, labels, invocation_defaults: defaults, history } = plan;
  const said = {
    ...(description !== undefined && { description }),
    ...(isPublic !== undefined && { public: isPublic }),
    ...(labels && { labels: { ...labels.values } }),
    ...(defaults && { invocation_defaults: newDefaults(defaults.values) }),
    ...(history && { history: { ...history.values } }),
  };
  const body = { name, code, function_name: handler, ...said, ...settings };
  const { data } = await answered(api.addFunction({ client, body }));
  return { action: 'added', function: data, revision: 1, serving: true };
}

/** A new function has none that could be taken away. */
function newDefaults({ callback_url: url, ...others }: InvocationDefaults): InvocationPolicyDto {
  return typeof url === 'string' ? { ...others, callback_url: url } : others;
}

async function revise({ client, api }: Connection, plan: Plan, former: FunctionDetailDto): Promise<Deployed> {
  const { code, handler, message, settings } = plan;
  const path = { id: former.id };
  const said = { ...(handler !== undefined && { function_name: handler }), ...(message !== undefined && { message }) };
  const { data } = await answered(api.addRevision({ client, path, body: { code, ...said, ...settings } }));
  // Afterwards: a revision that fails must change nothing.
  const patch = changesOf(plan, former);
  if (patch !== undefined) await answered(api.updateFunction({ client, path, body: patch }));
  const { data: now } = await answered(api.getFunction({ client, path }));
  return { action: 'revised', function: now, revision: data.revision, serving: data.serving };
}

const VALUES = ['description', 'public'] as const;
const MAPS = ['labels', 'invocation_defaults', 'history'] as const;
type Described = (typeof VALUES | typeof MAPS)[number];

export function changesOf(plan: Pick<Plan, Described>, former: Pick<FunctionDto, Described>): MetadataDto | undefined {
  const values = VALUES.filter((name) => plan[name] !== former[name]).map((name) => [name, plan[name]] as const);
  const maps = MAPS.map((name) => [name, patchOf(former[name], plan[name])] as const);
  const said = [...values, ...maps].filter(([, value]) => value !== undefined);
  return said.length > 0 ? (Object.fromEntries(said) as MetadataDto) : undefined;
}

/** What a JSON merge patch says of a map; undefined: it is as wanted. */
function patchOf(former: object, wanted: Wanted<object> | undefined): Record<string, unknown> | undefined {
  const before = new Map<string, unknown>(Object.entries(former));
  const values = Object.entries(wanted?.values ?? {}) as [string, unknown][];
  const changed = values.filter(([name, value]) => JSON.stringify(before.get(name) ?? null) !== JSON.stringify(value));
  const kept = new Set(values.map(([name]) => name));
  const gone = wanted?.alone === true ? [...before.keys()].filter((name) => !kept.has(name)) : [];
  const patch = Object.fromEntries([...changed, ...gone.map((name) => [name, null] as const)]);
  return Object.keys(patch).length > 0 ? patch : undefined;
}
