import { EXIT } from './failure.js';
import { run } from './program.js';

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // Whoever read it has seen enough, as head does.
    if (error.code === 'EPIPE') process.exit(EXIT.ok);
    throw error;
  });
}
process.on('SIGINT', () => process.exit(EXIT.interrupted));

process.exitCode = await run(process.argv.slice(2));
