import 'reflect-metadata';
import { loadConfig } from '#libs/config/load-config.js';
import { createLogger } from '#libs/observability/logger.js';
import { NestFactory } from '@nestjs/core';
import { readFile, writeFile } from 'node:fs/promises';
import { AppModule } from './app.module.js';
import { openApiDocument } from './openapi-document.js';

/** Writes openapi.json, or with --check says whether it still is what the code describes. */
async function main(): Promise<void> {
  const config = loadConfig({ DATABASE_URL: 'postgresql://nobody@localhost/none', LOG_LEVEL: 'silent' });
  const logger = createLogger(config.log);
  // Preview: the modules are read, nothing is constructed, so that no database or engine is needed.
  const app = await NestFactory.create(AppModule.forRoot(config, 'postgresql://nobody@localhost/none', logger), {
    preview: true,
    abortOnError: false,
    logger: false,
  });
  const text = `${JSON.stringify(openApiDocument(app), null, 2)}\n`;
  if (!process.argv.includes('--check')) {
    await writeFile('openapi.json', text);
    return;
  }
  if ((await readFile('openapi.json', 'utf8').catch(() => '')) !== text) {
    process.stderr.write('openapi.json is not what the code describes: run `npm run openapi` and commit it.\n');
    process.exitCode = 1;
  }
}

await main();
