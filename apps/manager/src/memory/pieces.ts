/** So many pieces may have any size. */
const FREE_PIECES = 4_096;
/** Of all further ones, on average. What sends less at a time costs far more work than bytes. */
const LEAST_BYTES = 64;

/** Whether `bytes` came in more pieces than anybody needs who means to get them across. */
export function areTooManyPieces(pieces: number, bytes: number): boolean {
  return pieces > FREE_PIECES + bytes / LEAST_BYTES;
}
