/**
 * Whether an object on the cluster says all that a manifest says. What it says beyond that (defaults, status, others'
 * fields) doesn't matter; a list must have exactly the manifest's elements, each covering its own.
 */
export function covers(live: unknown, wanted: unknown): boolean {
  if (wanted === undefined) return true;
  if (Array.isArray(wanted)) {
    return Array.isArray(live) && live.length === wanted.length && wanted.every((one, at) => covers(live[at], one));
  }
  if (typeof wanted === 'object' && wanted !== null) {
    if (typeof live !== 'object' || live === null) return false;
    return Object.entries(wanted).every(([key, value]) => covers((live as Record<string, unknown>)[key], value));
  }
  return live === wanted;
}
