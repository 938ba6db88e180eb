import * as client from '@kubernetes/client-node';
import * as core from 'kubernetes-models/v1';
import * as apps from 'kubernetes-models/apps/v1';
import * as autoscaling from 'kubernetes-models/autoscaling/v2';
import * as autoscaling1 from 'kubernetes-models/autoscaling/v1';
import * as batch from 'kubernetes-models/batch/v1';
import * as discovery from 'kubernetes-models/discovery.k8s.io/v1';
import * as networking from 'kubernetes-models/networking.k8s.io/v1';
import * as node from 'kubernetes-models/node.k8s.io/v1';
import * as policy from 'kubernetes-models/policy/v1';
import * as rbac from 'kubernetes-models/rbac.authorization.k8s.io/v1';
import * as scheduling from 'kubernetes-models/scheduling.k8s.io/v1';

/** Throws one error that names every fault of `data`: wrong types, values out of an enumeration, missing fields. */
type SchemaCheck = (data: object) => void;

/** One field as the OpenAPI document names and types it. */
export interface Field {
  readonly baseName: string;
  readonly type: string;
}

const GROUPS: Readonly<Record<string, object>> = {
  v1: core,
  'apps/v1': apps,
  'autoscaling/v1': autoscaling1,
  'autoscaling/v2': autoscaling,
  'batch/v1': batch,
  'discovery.k8s.io/v1': discovery,
  'networking.k8s.io/v1': networking,
  'node.k8s.io/v1': node,
  'policy/v1': policy,
  'rbac.authorization.k8s.io/v1': rbac,
  'scheduling.k8s.io/v1': scheduling,
};

/** The check compiled from the published OpenAPI schema; undefined for a kind that it doesn't have. */
export function schemaCheckOf(apiVersion: string, kind: string): SchemaCheck | undefined {
  const Model = (GROUPS[apiVersion] as Record<string, unknown> | undefined)?.[kind] as
    { new (data: object): { validate(): void }; readonly kind?: string } | undefined;
  return Model?.kind === kind ? (data) => new Model(data).validate() : undefined;
}

/** The name under which the generated client has a kind: `V1Deployment`, `V2HorizontalPodAutoscaler`. */
export function typeNameOf(apiVersion: string, kind: string): string {
  const version = apiVersion.split('/').at(-1) ?? '';
  return version.toUpperCase() + kind;
}

/** The fields of a type, from the client generated out of the same schema; undefined for a simple type. */
export function fieldsOf(typeName: string): readonly Field[] | undefined {
  const model = (client as unknown as Record<string, { attributeTypeMap?: readonly Field[] } | undefined>)[typeName];
  return model?.attributeTypeMap;
}
