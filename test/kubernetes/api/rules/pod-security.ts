import type { KubeObject } from '../store/objects.js';
import { type Fields, fields, list, text } from './fields.js';

const LABEL = 'pod-security.kubernetes.io/enforce';
const VOLUMES = new Set([
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
]);

/** What the restricted Pod Security profile refuses in a pod, where its namespace enforces that profile. */
export function podSecurityFault(namespace: KubeObject | undefined, pod: KubeObject): string | undefined {
  if (namespace?.metadata.labels?.[LABEL] !== 'restricted') return undefined;
  const faults = restrictedFaults(fields(pod.spec));
  return faults.length === 0 ? undefined : `violates PodSecurity "restricted:latest": ${faults.join(', ')}`;
}

function restrictedFaults(spec: Fields): string[] {
  const containers = list(spec['containers']);
  const named = (test: (context: Fields) => boolean) =>
    containers.filter((one) => test(fields(one['securityContext']))).map(({ name }) => JSON.stringify(name));
  const podContext = fields(spec['securityContext']);
  const profile = (context: Fields) => text(fields(context['seccompProfile'])['type']);
  const isSafe = (type: string) => type === 'RuntimeDefault' || type === 'Localhost';
  const drops = (context: Fields) => fields(context['capabilities'])['drop'] as string[] | undefined;
  const adds = (context: Fields) => (fields(context['capabilities'])['add'] ?? []) as string[];
  const isNonRoot = (context: Fields) => (context['runAsNonRoot'] ?? podContext['runAsNonRoot']) === true;
  return [
    ...['hostNetwork', 'hostPID', 'hostIPC']
      .filter((name) => spec[name] === true)
      .map((name) => `host namespaces (${name}=true)`),
    ...about(
      'privileged',
      named(({ privileged }) => privileged === true),
      'must not set securityContext.privileged=true',
    ),
    ...about(
      'allowPrivilegeEscalation != false',
      named(({ allowPrivilegeEscalation }) => allowPrivilegeEscalation !== false),
      'must set securityContext.allowPrivilegeEscalation=false',
    ),
    ...about(
      'unrestricted capabilities',
      named((context) => drops(context)?.includes('ALL') !== true),
      'must set securityContext.capabilities.drop=["ALL"]',
    ),
    ...about(
      'unrestricted capabilities',
      named((context) => adds(context).some((name) => name !== 'NET_BIND_SERVICE')),
      'must not add capabilities but NET_BIND_SERVICE',
    ),
    ...restrictedVolumes(spec),
    ...about(
      'runAsNonRoot != true',
      named((context) => !isNonRoot(context)),
      'must set securityContext.runAsNonRoot=true',
      'pod or ',
    ),
    ...about(
      'runAsUser=0',
      named(({ runAsUser }) => runAsUser === 0),
      'must not set runAsUser=0',
    ),
    ...about(
      'seccompProfile',
      named((context) => !isSafe(profile(context) || profile(podContext))),
      'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"',
      'pod or ',
    ),
  ];
}

function about(check: string, names: readonly string[], rule: string, prefix = ''): string[] {
  if (names.length === 0) return [];
  return [`${check} (${prefix}container${names.length > 1 ? 's' : ''} ${names.join(', ')} ${rule})`];
}

function restrictedVolumes(spec: Fields): string[] {
  return list(spec['volumes']).flatMap(({ name, ...source }) => {
    const type = Object.keys(source)[0] ?? '';
    return VOLUMES.has(type)
      ? []
      : [`restricted volume types (volume ${JSON.stringify(name)} uses restricted volume type "${type}")`];
  });
}
