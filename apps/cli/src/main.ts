import { EXIT } from './failure.js';
import { run } from './program.js';

// A command whose reader has gone, as head goes, still does what it is for, and ends with its own code.
process.stderr.on('error', () => undefined);
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  process.stderr.write(`error: The result can't be written: ${error.message}.\n`);
  process.exit(EXIT.unexpected);
});
process.on('SIGINT', () => process.exit(EXIT.interrupted));

process.exitCode = await run(process.argv.slice(2));
