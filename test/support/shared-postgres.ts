import type { TestProject } from 'vitest/node';
import { startTestPostgres } from './postgres.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The URL of its server. */
    sharedPostgres: string;
  }
}

/** Starts the server for all test files of a project that never take theirs away. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startTestPostgres();
  project.provide('sharedPostgres', server.url);
  return () => server.stop();
}
