const DECIMAL = ['m', '', 'k', 'M', 'G'] as const;
const BINARY = ['Mi', 'Gi', 'Ti', 'Pi', 'Ei'] as const;

/** Thousandths of a core as the API server writes them back, so that what is wanted equals what is there. */
export function cpuQuantity(millis: number): string {
  return canonical(millis, 1000, DECIMAL);
}

/** Mebibytes as the API server writes them back. */
export function memoryQuantity(mebibytes: number): string {
  return canonical(mebibytes, 1024, BINARY);
}

/** With the largest suffix that leaves a whole number. */
function canonical(amount: number, step: number, suffixes: readonly string[]): string {
  if (amount === 0) return '0';
  let left = amount;
  let suffix = 0;
  while (left % step === 0 && suffix < suffixes.length - 1) {
    left /= step;
    suffix += 1;
  }
  return `${left}${suffixes[suffix]}`;
}
