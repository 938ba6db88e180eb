/** A DNS label (RFC 1123, section 2.1): it may stand in paths and host names, and as a name on a cluster. */
export const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export function isDnsLabel(text: unknown): text is string {
  return typeof text === 'string' && DNS_LABEL.test(text);
}
