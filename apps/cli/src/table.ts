const GAP = '  ';

/** Lines of a table whose columns are as wide as their widest cell; the last one ends where its text does. */
export function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, column) => Math.max(...[title, ...rows.map((row) => row[column] ?? '')].map(length)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - length(cell)))
      .join(GAP)
      .trimEnd(),
  );
}

function length(text: string): number {
  return [...text].length;
}
