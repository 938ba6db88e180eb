import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { forbidden, Refusal, UNAUTHORIZED } from '../rest/problems.js';
import type { Resource } from '../rest/resources.js';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

export interface User {
  readonly name: string;
  readonly isAdmin: boolean;
}

export interface Attributes {
  readonly verb: string;
  readonly resource: Resource;
  readonly subresource?: string | undefined;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

/** One (verb, resource) that a user was allowed, or refused: `get pods/log`, `patch deployments.apps`. */
export interface Use {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly allowed: boolean;
}

export interface AccessOptions {
  /** YAML with the Role of the manager in the functions' namespace; whatever else is in the file is ignored. */
  readonly roleFile: string;
  /** The namespace that the Role is for. */
  readonly namespace: string;
  /** `system:serviceaccount:<namespace>:<name>` */
  readonly managerName: string;
}

/** Who may come in, and who may do what. Keeps what the manager used of its Role. */
export class Access {
  private readonly tokens = new Map<string, User>();
  private readonly rules: readonly Rule[];
  private readonly used = new Map<string, Use>();
  private readonly options: AccessOptions;

  constructor(options: AccessOptions) {
    this.options = options;
    this.rules = rulesIn(options.roleFile);
  }

  grant(token: string, role: 'admin' | 'manager'): void {
    const name = role === 'admin' ? 'kubernetes-admin' : this.options.managerName;
    this.tokens.set(token, { name, isAdmin: role === 'admin' });
  }

  revoke(token: string): void {
    this.tokens.delete(token);
  }

  userOf(authorization: string | undefined): User {
    const user = this.tokens.get(/^Bearer (.+)$/.exec(authorization ?? '')?.[1] ?? '');
    if (user === undefined) throw UNAUTHORIZED;
    return user;
  }

  authorize(user: User, attributes: Attributes): void {
    if (user.isAdmin) return;
    const { verb, resource, subresource, namespace, name = '' } = attributes;
    const full = subresource === undefined ? resource.plural : `${resource.plural}/${subresource}`;
    const allowed =
      namespace === this.options.namespace &&
      this.rules.some(
        ({ apiGroups, resources, verbs, resourceNames }) =>
          has(apiGroups, resource.group) &&
          has(resources, full) &&
          has(verbs, verb) &&
          (resourceNames === undefined || resourceNames.includes(name)),
      );
    this.used.set(`${allowed} ${verb} ${full}.${resource.group}`, {
      verb,
      group: resource.group,
      resource: full,
      allowed,
    });
    if (allowed) return;
    const where = namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`;
    const why = `User "${user.name}" cannot ${verb} resource "${full}" in API group "${resource.group}" ${where}`;
    throw forbidden(resource, name, why);
  }

  /** Only what everybody may see is left besides objects. */
  authorizePath(user: User, verb: string, path: string): void {
    if (user.isAdmin || /^\/(api|apis|version|healthz|livez|readyz|openapi)(\/|$)/.test(path)) return;
    const why = `User "${user.name}" cannot ${verb} path "${path}"`;
    throw new Refusal(403, 'Forbidden', `forbidden: ${why}`, {});
  }

  /** What the manager did so far, allowed or not. */
  uses(): Use[] {
    return [...this.used.values()];
  }

  /** Every (verb, resource) that the Role grants. */
  grants(): Omit<Use, 'allowed'>[] {
    return this.rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) => resources.flatMap((resource) => verbs.map((verb) => ({ verb, group, resource })))),
    );
  }
}

function has(list: readonly string[], value: string): boolean {
  return list.includes('*') || list.includes(value);
}

function rulesIn(roleFile: string): Rule[] {
  const documents = parseAllDocuments(readFileSync(roleFile, 'utf8'));
  return documents.flatMap((document) => {
    const { kind, rules = [] } = (document.toJS() ?? {}) as { kind?: string; rules?: Rule[] };
    return kind === 'Role' ? rules : [];
  });
}
