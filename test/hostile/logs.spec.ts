import { describeOnAnyEngine } from '../support/engines.js';
import { Stage } from '../support/stage.js';
import { attackTheLog } from './support/log-attacks.js';

describeOnAnyEngine('a log of JSON lines', (engine) => {
  attackTheLog(Stage.on(engine));
});
