const FRAMES = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏';
const FRAME_MS = 100;
const CLEAR = '\r\u001b[K';

/** Runs work under a title: a line that moves in a terminal, where there is room for more, and a plain one elsewhere. */
export async function withProgress<T>(
  title: string,
  work: (say?: (text: string) => void) => Promise<T>,
  err: NodeJS.WriteStream = process.stderr,
): Promise<T> {
  if (!err.isTTY || process.env['TERM'] === 'dumb') {
    err.write(`${title} …\n`);
    return work();
  }
  const began = performance.now();
  let said = '';
  let frame = 0;
  const draw = () => {
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const line = `${FRAMES[frame++ % FRAMES.length]} ${title} … ${seconds} s${said === '' ? '' : `  ${said}`}`;
    // One that wraps could not be cleared.
    err.write(CLEAR + [...line].slice(0, (err.columns || 80) - 1).join(''));
  };
  const timer = setInterval(draw, FRAME_MS);
  const clear = () => err.write(CLEAR);
  process.once('exit', clear);
  draw();
  try {
    return await work((text) => (said = text));
  } finally {
    clearInterval(timer);
    process.off('exit', clear);
    clear();
  }
}
