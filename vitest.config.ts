import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const alias = [{ find: /^#libs\/(.*)\.js$/, replacement: fileURLToPath(new URL('./libs/$1.ts', import.meta.url)) }];

export default defineConfig({
  test: {
    projects: [
      {
        resolve: { alias },
        test: {
          name: 'beside-the-code',
          include: ['apps/**/*.spec.ts', 'libs/**/*.spec.ts'],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        resolve: { alias },
        test: {
          // Engines and databases are shared, and some behaviours are promised within milliseconds: one file at a time.
          name: 'whole',
          include: ['test/**/*.spec.ts'],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
