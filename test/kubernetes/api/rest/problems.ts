/** The API server's `Status` of something that it refused. */
export interface Status {
  readonly kind: 'Status';
  readonly apiVersion: 'v1';
  readonly metadata: object;
  readonly status: 'Failure' | 'Success';
  readonly message?: string;
  readonly reason?: string;
  readonly details?: StatusDetails;
  readonly code?: number;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly Cause[];
  readonly retryAfterSeconds?: number;
}

export interface Cause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

/** One fault of a field, as validation words it. */
export interface FieldFault {
  readonly field: string;
  readonly type: 'Required' | 'Invalid' | 'Forbidden' | 'NotFound' | 'NotSupported' | 'TooLong' | 'Duplicate';
  readonly message: string;
}

export interface Named {
  readonly plural: string;
  readonly kind: string;
  readonly group: string;
}

export class Refusal extends Error {
  readonly code: number;
  readonly reason: string | undefined;
  readonly details: StatusDetails | undefined;

  constructor(code: number, reason: string | undefined, message: string, details?: StatusDetails) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  get status(): Status {
    const { code, reason, message, details } = this;
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      ...(reason === undefined ? {} : { reason }),
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

function of(resource: Named, name: string): StatusDetails {
  return { name, ...(resource.group === '' ? {} : { group: resource.group }), kind: resource.plural };
}

function qualified({ plural, group }: Named): string {
  return group === '' ? plural : `${plural}.${group}`;
}

export function notFound(resource: Named, name: string): Refusal {
  return new Refusal(404, 'NotFound', `${qualified(resource)} "${name}" not found`, of(resource, name));
}

export function alreadyExists(resource: Named, name: string): Refusal {
  return new Refusal(409, 'AlreadyExists', `${qualified(resource)} "${name}" already exists`, of(resource, name));
}

export function conflict(resource: Named, name: string, why: string): Refusal {
  const message = `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`;
  return new Refusal(409, 'Conflict', message, of(resource, name));
}

export function badRequest(message: string): Refusal {
  return new Refusal(400, 'BadRequest', message);
}

export function forbidden(resource: Named, name: string, why: string): Refusal {
  const subject = name === '' ? qualified(resource) : `${qualified(resource)} "${name}"`;
  return new Refusal(403, 'Forbidden', `${subject} is forbidden: ${why}`, of(resource, name));
}

const PREFIX: Readonly<Record<FieldFault['type'], string>> = {
  Required: 'Required value',
  Invalid: 'Invalid value',
  Forbidden: 'Forbidden',
  NotFound: 'Not found',
  NotSupported: 'Unsupported value',
  TooLong: 'Too long',
  Duplicate: 'Duplicate value',
};

export function invalid(resource: Named, name: string, faults: readonly FieldFault[]): Refusal {
  const causes = faults.map(({ field, type, message }) => ({
    reason: `FieldValue${type}`,
    message: message === '' ? PREFIX[type] : `${PREFIX[type]}: ${message}`,
    field,
  }));
  const list = causes.map(({ field, message }) => `${field}: ${message}`).join(', ');
  const kind = resource.group === '' ? resource.kind : `${resource.kind}.${resource.group}`;
  const message = `${kind} "${name}" is invalid: ${causes.length === 1 ? list : `[${list}]`}`;
  const details = {
    ...(name === '' ? {} : { name }),
    ...(resource.group === '' ? {} : { group: resource.group }),
    kind: resource.kind,
    causes,
  };
  return new Refusal(422, 'Invalid', message, details);
}

export function success(resource: Named, name: string, uid: string): Status {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details: { ...of(resource, name), uid } };
}

export const UNAUTHORIZED = new Refusal(401, 'Unauthorized', 'Unauthorized');
export const NO_SUCH_RESOURCE = new Refusal(404, 'NotFound', 'the server could not find the requested resource', {});
export const NOT_ALLOWED = new Refusal(
  405,
  'MethodNotAllowed',
  'the server does not allow this method on the requested resource',
  {},
);
