import { measureBurst } from './burst.mjs';
import { measureDeploy } from './deploy.mjs';
import { measureDeploys } from './deploys.mjs';
import { measureFormer } from './former.mjs';
import { measureHttp } from './http.mjs';
import { measureHistory } from './history.mjs';
import { measureKubernetesWake } from './kubernetes-wake.mjs';
import { measureLater } from './later.mjs';
import { measureMany } from './many.mjs';
import { measureMemory } from './memory.mjs';
import { measureNeighbour } from './neighbour.mjs';
import { measureOverhead } from './overhead.mjs';
import { measurePackages } from './packages.mjs';
import { measureRuns } from './runs.mjs';
import { measureScale } from './scale.mjs';
import { measureScaleFromZero } from './scale-from-zero.mjs';
import { measureStorm } from './storm.mjs';
import { measureThroughput } from './throughput.mjs';
import { measureUpdates } from './updates.mjs';
import { measureWakes } from './wakes.mjs';
import { measureWorker } from './worker.mjs';

/** Every figure there is, in the order they are measured. */
export const FIGURES = {
  'scale-from-zero': measureScaleFromZero,
  burst: measureBurst,
  wakes: measureWakes,
  deploy: measureDeploy,
  updates: measureUpdates,
  runs: measureRuns,
  packages: measurePackages,
  overhead: measureOverhead,
  throughput: measureThroughput,
  http: measureHttp,
  worker: measureWorker,
  storm: measureStorm,
  neighbour: measureNeighbour,
  later: measureLater,
  history: measureHistory,
  memory: measureMemory,
  many: measureMany,
  deploys: measureDeploys,
  former: measureFormer,
  scale: measureScale,
  'kubernetes-wake': measureKubernetesWake,
};

/** Measured only when they are named: they need what the others don't, or measure no functions that run. */
export const ON_REQUEST = ['former', 'scale', 'kubernetes-wake'];
