import { isDeepStrictEqual } from 'node:util';
import type { FieldFault } from '../rest/problems.js';
import type { KubeObject, Metadata } from '../store/objects.js';
import { type LabelSelector, matchesLabels } from '../store/selectors.js';
import { type Fields, fields, list } from './fields.js';
import { fault, invalidValue, keyFaults, labelNameFaults, labelsFaults, subdomainFaults } from './names.js';
import { podSpecFaults, portFaults, duplicates } from './pod-rules.js';

const MAX_CONFIG_MAP_BYTES = 1024 * 1024;
const CONFIG_KEY =
  "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/** What the API server refuses with 422, once an object's fields and types are sound. */
export function objectFaults(object: KubeObject, previous: KubeObject | undefined): FieldFault[] {
  return [...metadataFaults(object), ...(RULES[object.kind]?.(object, previous) ?? [])];
}

function metadataFaults({ kind, metadata }: KubeObject): FieldFault[] {
  const isLabel = kind === 'Namespace' || kind === 'Service';
  const name = metadata.name ?? '';
  if (name === '') return [fault('metadata.name', 'Required', 'name or generateName is required')];
  return [
    ...(isLabel ? labelNameFaults('metadata.name', name) : subdomainFaults('metadata.name', name)),
    ...labelsFaults('metadata.labels', metadata.labels),
    ...Object.keys(metadata.annotations ?? {}).flatMap((key) => keyFaults('metadata.annotations', key.toLowerCase())),
    ...ownerFaults(metadata),
  ];
}

function ownerFaults({ ownerReferences = [] }: Metadata): FieldFault[] {
  const at = 'metadata.ownerReferences';
  const controllers = ownerReferences.filter(({ controller }) => controller === true);
  return [
    ...ownerReferences.flatMap((reference) =>
      (['apiVersion', 'kind', 'name', 'uid'] as const).flatMap((field) =>
        (reference[field] ?? '') === '' ? [invalidValue(`${at}.${field}`, '', 'must not be empty')] : [],
      ),
    ),
    ...(controllers.length > 1
      ? [invalidValue(at, ownerReferences, 'Only one reference can have Controller set to true')]
      : []),
  ];
}

type Rule = (object: KubeObject, previous: KubeObject | undefined) => FieldFault[];

const RULES: Readonly<Record<string, Rule>> = {
  ConfigMap: (object, previous) => configMapFaults(object, previous),
  Deployment: (object, previous) => {
    const spec = fields(object.spec);
    const rolling = fields(fields(spec['strategy'])['rollingUpdate']);
    const zeroes = ['maxSurge', 'maxUnavailable'].every((name) => [0, '0%'].includes(rolling[name] as never));
    return [
      ...countFaults('spec.replicas', spec['replicas'], 0),
      ...selectorFaults(spec, 'deployment'),
      ...templateFaults(spec),
      ...immutable('spec.selector', spec['selector'], previous && fields(previous.spec)['selector']),
      ...(zeroes && rolling['maxSurge'] !== undefined
        ? [
            invalidValue(
              'spec.strategy.rollingUpdate.maxUnavailable',
              rolling['maxUnavailable'],
              'may not be 0 when `maxSurge` is 0',
            ),
          ]
        : []),
    ];
  },
  ReplicaSet: (object, previous) => {
    const spec = fields(object.spec);
    return [
      ...countFaults('spec.replicas', spec['replicas'], 0),
      ...selectorFaults(spec, 'replicaset'),
      ...templateFaults(spec),
      ...immutable('spec.selector', spec['selector'], previous && fields(previous.spec)['selector']),
    ];
  },
  Pod: (object, previous) => [
    ...podSpecFaults('spec', fields(object.spec)),
    ...(previous === undefined ? [] : podUpdateFaults(fields(object.spec), fields(previous.spec))),
  ],
  Service: (object, previous) => serviceFaults(fields(object.spec), previous && fields(previous.spec)),
  HorizontalPodAutoscaler: ({ spec }) => autoscalerFaults(fields(spec)),
};

function configMapFaults(object: KubeObject, previous: KubeObject | undefined): FieldFault[] {
  const [data, binary] = [fields(object['data']), fields(object['binaryData'])];
  const size = [
    ...Object.values(data).map((text) => Buffer.byteLength(String(text))),
    ...Object.values(binary).map((text) => Buffer.from(String(text), 'base64').length),
  ].reduce((sum, bytes) => sum + bytes, 0);
  const isFixed = previous?.['immutable'] === true;
  const changed = ['data', 'binaryData'].filter(
    (name) => isFixed && !isDeepStrictEqual(object[name], previous?.[name]),
  );
  const why = 'field is immutable when `immutable` is set';
  return [
    ...[...Object.keys(data), ...Object.keys(binary)].flatMap((key) =>
      /^[-._a-zA-Z0-9]+$/.test(key) ? [] : [invalidValue(`data[${key}]`, key, CONFIG_KEY)],
    ),
    ...(size > MAX_CONFIG_MAP_BYTES
      ? [fault('[]', 'TooLong', `may not be more than ${MAX_CONFIG_MAP_BYTES} bytes`)]
      : []),
    ...(isFixed && object['immutable'] !== true ? [fault('immutable', 'Forbidden', why)] : []),
    ...changed.map((name) => fault(name, 'Forbidden', why)),
  ];
}

function selectorFaults(spec: Fields, kind: string): FieldFault[] {
  const selector = fields(spec['selector']) as LabelSelector;
  const isEmpty = Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions?.length ?? 0) === 0;
  if (isEmpty) return [invalidValue('spec.selector', selector, `empty selector is invalid for ${kind}`)];
  const labels = fields(fields(spec['template'])['metadata'])['labels'] as Record<string, string> | undefined;
  if (matchesLabels(selector, labels)) return [];
  return [invalidValue('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`')];
}

function templateFaults(spec: Fields): FieldFault[] {
  const template = fields(spec['template']);
  const podSpec = fields(template['spec']);
  const labels = fields(template['metadata'])['labels'] as Record<string, string> | undefined;
  const policy = podSpec['restartPolicy'];
  return [
    ...labelsFaults('spec.template.metadata.labels', labels),
    ...podSpecFaults('spec.template.spec', podSpec),
    ...(policy === 'Never' || policy === 'OnFailure'
      ? [fault('spec.template.spec.restartPolicy', 'NotSupported', `"${policy}": supported values: "Always"`)]
      : []),
  ];
}

function immutable(field: string, value: unknown, before: unknown): FieldFault[] {
  if (before === undefined || isDeepStrictEqual(value, before)) return [];
  return [invalidValue(field, value, 'field is immutable')];
}

function podUpdateFaults(spec: Fields, before: Fields): FieldFault[] {
  const fixed = (one: Fields) => ({
    ...one,
    containers: list(one['containers']).map((container) => ({ ...container, image: '' })),
    activeDeadlineSeconds: 0,
    terminationGracePeriodSeconds: 0,
    tolerations: [],
    nodeName: before['nodeName'] === undefined ? '' : one['nodeName'],
  });
  if (isDeepStrictEqual(fixed(spec), fixed(before))) return [];
  const why =
    'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';
  return [fault('spec', 'Forbidden', why)];
}

function serviceFaults(spec: Fields, before: Fields | undefined): FieldFault[] {
  const ports = list(spec['ports']);
  const isHeadless = spec['clusterIP'] === 'None';
  return [
    ...(ports.length === 0 && !isHeadless ? [fault('spec.ports', 'Required')] : []),
    ...ports.flatMap((port, index) => [
      ...(ports.length > 1 && (port['name'] ?? '') === '' ? [fault(`spec.ports[${index}].name`, 'Required')] : []),
      ...portFaults(`spec.ports[${index}].port`, port['port']),
      ...(typeof port['targetPort'] === 'number'
        ? portFaults(`spec.ports[${index}].targetPort`, port['targetPort'])
        : []),
    ]),
    ...duplicates(
      'spec.ports',
      ports.filter(({ name }) => name !== undefined),
      'name',
    ),
    ...(before?.['clusterIP'] !== undefined && before['clusterIP'] !== spec['clusterIP']
      ? [invalidValue('spec.clusterIPs[0]', [spec['clusterIP']], 'may not change once set')]
      : []),
  ];
}

function autoscalerFaults(spec: Fields): FieldFault[] {
  const [least, most] = [Number(spec['minReplicas']), Number(spec['maxReplicas'])];
  const metrics = list(spec['metrics']);
  return [
    ...(most < 1 ? [invalidValue('spec.maxReplicas', most, 'must be greater than 0')] : []),
    ...countFaults('spec.minReplicas', least, 1),
    ...(most < least ? [invalidValue('spec.maxReplicas', most, 'must be greater than or equal to `minReplicas`')] : []),
    ...(least === 0 && !metrics.some(({ type }) => type === 'Object' || type === 'External')
      ? [
          fault(
            'spec.metrics',
            'Forbidden',
            'must specify at least one Object or External metric to support scaling to zero replicas',
          ),
        ]
      : []),
  ];
}

function countFaults(field: string, value: unknown, least: number): FieldFault[] {
  return Number(value) < least ? [invalidValue(field, value, `must be greater than or equal to ${least}`)] : [];
}
