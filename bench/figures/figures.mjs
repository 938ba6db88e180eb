import { measureDeploy } from './deploy.mjs';
import { measureOverhead } from './overhead.mjs';
import { measureThroughput } from './throughput.mjs';
import { measureWorker } from './worker.mjs';

/** Every figure there is, in the order they are measured. */
export const FIGURES = {
  deploy: measureDeploy,
  overhead: measureOverhead,
  throughput: measureThroughput,
  worker: measureWorker,
};
