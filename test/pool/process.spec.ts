import { describePool } from './support/describe-pool.js';
import { processPool } from './support/process-pool.js';

describePool('process', processPool);
