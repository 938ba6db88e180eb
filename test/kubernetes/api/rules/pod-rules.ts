import type { FieldFault } from '../rest/problems.js';
import { type Fields, fields, list, text } from './fields.js';
import { fault, invalidValue, labelNameFaults } from './names.js';
import { quantity } from './quantity.js';

/** What validation refuses in a pod's spec, for the fields that workloads like ours have. */
export function podSpecFaults(field: string, spec: Fields): FieldFault[] {
  const containers = list(spec['containers']);
  const volumes = new Set(list(spec['volumes']).map(({ name }) => String(name)));
  const grace = Number(spec['terminationGracePeriodSeconds'] ?? 30);
  return [
    ...(containers.length === 0 ? [fault(`${field}.containers`, 'Required')] : []),
    ...duplicates(`${field}.volumes`, list(spec['volumes']), 'name'),
    ...list(spec['volumes']).flatMap(({ name }, index) =>
      labelNameFaults(`${field}.volumes[${index}].name`, String(name)),
    ),
    ...duplicates(`${field}.containers`, containers, 'name'),
    ...containers.flatMap((one, index) => containerFaults(`${field}.containers[${index}]`, one, volumes, grace)),
    ...(grace < 0
      ? [invalidValue(`${field}.terminationGracePeriodSeconds`, grace, 'must be greater than or equal to 0')]
      : []),
    ...oneOf(`${field}.restartPolicy`, spec['restartPolicy'], ['Always', 'OnFailure', 'Never']),
    ...list(spec['topologySpreadConstraints']).flatMap(({ maxSkew }, index) =>
      Number(maxSkew) > 0
        ? []
        : [invalidValue(`${field}.topologySpreadConstraints[${index}].maxSkew`, maxSkew, 'must be greater than zero')],
    ),
  ];
}

function containerFaults(field: string, container: Fields, volumes: ReadonlySet<string>, grace: number): FieldFault[] {
  const image = container['image'];
  return [
    ...labelNameFaults(`${field}.name`, String(container['name'])),
    ...(image === undefined || image === '' ? [fault(`${field}.image`, 'Required')] : []),
    ...list(container['ports']).flatMap(({ containerPort }, index) =>
      portFaults(`${field}.ports[${index}].containerPort`, containerPort),
    ),
    ...list(container['env']).flatMap((variable, index) => variableFaults(`${field}.env[${index}]`, variable)),
    ...list(container['volumeMounts']).flatMap((mount, index) =>
      mountFaults(`${field}.volumeMounts[${index}]`, mount, volumes),
    ),
    ...duplicates(`${field}.volumeMounts`, list(container['volumeMounts']), 'mountPath'),
    ...oneOf(`${field}.imagePullPolicy`, container['imagePullPolicy'], ['Always', 'IfNotPresent', 'Never']),
    ...oneOf(`${field}.terminationMessagePolicy`, container['terminationMessagePolicy'], [
      'FallbackToLogsOnError',
      'File',
    ]),
    ...resourceFaults(`${field}.resources`, fields(container['resources'])),
    ...preStopFaults(`${field}.lifecycle.preStop`, fields(fields(container['lifecycle'])['preStop']), grace),
    ...['livenessProbe', 'readinessProbe', 'startupProbe'].flatMap((name) =>
      container[name] === undefined ? [] : probeFaults(`${field}.${name}`, fields(container[name]), name),
    ),
  ];
}

function variableFaults(field: string, { name, value, valueFrom }: Fields): FieldFault[] {
  const isName = /^[ -<>-~]+$/.test(String(name));
  return [
    ...(isName
      ? []
      : [
          invalidValue(
            `${field}.name`,
            name,
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
          ),
        ]),
    ...(value !== undefined && value !== '' && valueFrom !== undefined
      ? [invalidValue(`${field}.valueFrom`, '', 'may not be specified when `value` is not empty')]
      : []),
  ];
}

function mountFaults(field: string, { name, mountPath }: Fields, volumes: ReadonlySet<string>): FieldFault[] {
  return [
    ...(volumes.has(String(name)) ? [] : [fault(`${field}.name`, 'NotFound', JSON.stringify(name))]),
    ...(mountPath === '' ? [fault(`${field}.mountPath`, 'Required')] : []),
  ];
}

function resourceFaults(field: string, resources: Fields): FieldFault[] {
  const limits = fields(resources['limits']);
  return Object.entries(fields(resources['requests'])).flatMap(([name, request]) => {
    const limit = limits[name];
    const tooMuch = limit !== undefined && (quantity(request) ?? 0) > (quantity(limit) ?? 0);
    return tooMuch
      ? [invalidValue(`${field}.requests`, request, `must be less than or equal to ${name} limit of ${text(limit)}`)]
      : [];
  });
}

function preStopFaults(field: string, { sleep }: Fields, grace: number): FieldFault[] {
  if (sleep === undefined) return [];
  const seconds = Number(fields(sleep)['seconds']);
  if (seconds >= 0 && seconds <= grace) return [];
  const rule = `must be non-negative and less than terminationGracePeriodSeconds (${grace})`;
  return [invalidValue(`${field}.sleep`, seconds, rule)];
}

function probeFaults(field: string, probe: Fields, name: string): FieldFault[] {
  const numbers = ['initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold'];
  const handlers = ['httpGet', 'exec', 'tcpSocket', 'grpc'].filter((one) => probe[one] !== undefined);
  return [
    ...(handlers.length === 0 ? [fault(field, 'Required', 'must specify a handler type')] : []),
    ...numbers.flatMap((one) =>
      Number(probe[one] ?? 0) < 0
        ? [invalidValue(`${field}.${one}`, probe[one], 'must be greater than or equal to 0')]
        : [],
    ),
    ...(name !== 'readinessProbe' && Number(probe['successThreshold'] ?? 1) !== 1
      ? [invalidValue(`${field}.successThreshold`, probe['successThreshold'], 'must be 1')]
      : []),
  ];
}

export function portFaults(field: string, port: unknown): FieldFault[] {
  const number = Number(port);
  if (Number.isInteger(number) && number >= 1 && number <= 65_535) return [];
  return [invalidValue(field, port, 'must be between 1 and 65535, inclusive')];
}

export function duplicates(field: string, items: readonly Fields[], key: string): FieldFault[] {
  const seen = new Set<unknown>();
  return items.flatMap((item, index) => {
    const isKnown = seen.has(item[key]);
    seen.add(item[key]);
    return isKnown ? [fault(`${field}[${index}].${key}`, 'Duplicate', JSON.stringify(item[key]))] : [];
  });
}

function oneOf(field: string, value: unknown, allowed: readonly string[]): FieldFault[] {
  if (value === undefined || allowed.includes(text(value))) return [];
  const supported = allowed.map((one) => JSON.stringify(one)).join(', ');
  return [fault(field, 'NotSupported', `${JSON.stringify(value)}: supported values: ${supported}`)];
}
