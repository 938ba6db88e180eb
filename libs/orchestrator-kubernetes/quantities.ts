const BINARY_SUFFIXES = ['Mi', 'Gi', 'Ti'] as const;

/** Thousandths of a core as the API server writes them back, so that what is wanted equals what is there. */
export function cpuQuantity(millis: number): string {
  return millis % 1000 === 0 ? String(millis / 1000) : `${millis}m`;
}

/** Mebibytes as the API server writes them back. */
export function memoryQuantity(mebibytes: number): string {
  let amount = mebibytes;
  let suffix = 0;
  while (amount !== 0 && amount % 1024 === 0 && suffix < BINARY_SUFFIXES.length - 1) {
    amount /= 1024;
    suffix += 1;
  }
  return `${amount}${BINARY_SUFFIXES[suffix]}`;
}
