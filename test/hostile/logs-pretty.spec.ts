import { describeOnAnyEngine } from '../support/engines.js';
import { Stage } from '../support/stage.js';
import { attackTheLog } from './support/log-attacks.js';

// Apart from the other format: the first logger of a process stays the one of its requests.
describeOnAnyEngine('a log for people', (engine) => {
  attackTheLog(Stage.on(engine, { LOG_FORMAT: 'pretty' }));
});
