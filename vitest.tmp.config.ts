import { defineConfig } from 'vitest/config';
export default defineConfig({ root: '/work/main', resolve: { alias: [{ find: /^#libs\/(.*)\.js$/, replacement: '/work/main/libs/$1.ts' }] }, test: { include: ['test/kubernetes-cluster/**/*.spec.ts'], fileParallelism: false, testTimeout: 120000, hookTimeout: 180000 } });
