import type { FieldFault } from '../rest/problems.js';

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;

const LABEL_RULE =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const KEY_RULE =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

export function fault(field: string, type: FieldFault['type'], message = ''): FieldFault {
  return { field, type, message };
}

export function invalidValue(field: string, value: unknown, message: string): FieldFault {
  return fault(field, 'Invalid', `${JSON.stringify(value)}: ${message}`);
}

export function labelNameFaults(field: string, name: string): FieldFault[] {
  if (name.length > 63) return [invalidValue(field, name, 'must be no more than 63 bytes')];
  return LABEL.test(name) ? [] : [invalidValue(field, name, LABEL_RULE)];
}

export function subdomainFaults(field: string, name: string): FieldFault[] {
  if (name.length > 253) return [invalidValue(field, name, 'must be no more than 253 bytes')];
  return SUBDOMAIN.test(name) ? [] : [invalidValue(field, name, SUBDOMAIN_RULE)];
}

export function labelsFaults(field: string, labels: Readonly<Record<string, string>> | undefined): FieldFault[] {
  return Object.entries(labels ?? {}).flatMap(([key, value]) => [
    ...keyFaults(field, key),
    ...(value.length > 63 ? [invalidValue(field, value, 'must be no more than 63 bytes')] : []),
    ...(LABEL_VALUE.test(value) ? [] : [invalidValue(field, value, VALUE_RULE)]),
  ]);
}

export function keyFaults(field: string, key: string): FieldFault[] {
  const parts = key.split('/');
  const name = parts.at(-1) ?? '';
  if (parts.length > 2) return [invalidValue(field, key, `a qualified name must consist of ${KEY_RULE}`)];
  if (parts.length === 2 && !SUBDOMAIN.test(parts[0] ?? '')) {
    return [invalidValue(field, key, `prefix part ${SUBDOMAIN_RULE}`)];
  }
  if (name.length > 63) return [invalidValue(field, key, 'name part must be no more than 63 bytes')];
  return QUALIFIED.test(name) ? [] : [invalidValue(field, key, KEY_RULE)];
}
