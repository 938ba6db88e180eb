import 'reflect-metadata';
import { loadConfig } from '#libs/config/load-config.js';
import { dataSourceOptions, openDataSource } from '#libs/database/data-source.js';
import { DatabaseServer } from '#libs/database/database-server.js';
import { createLogger } from '#libs/observability/logger.js';

/** Brings the schema up to date and leaves: for those who migrate before they roll the managers. */
const config = loadConfig(process.env);
const logger = createLogger(config.log);
const server = await DatabaseServer.open(config.database, logger);
try {
  const settings = { url: server.url, poolSize: 2, entities: [], logger };
  const source = await openDataSource(dataSourceOptions(settings), logger);
  await source.destroy();
  logger.info('the schema is up to date');
} finally {
  await server.close();
}
