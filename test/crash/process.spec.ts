import { describeSkipped } from '../support/skipped.js';
import { describeCrashes } from './support/describe-crashes.js';
import { ProcessSite } from './support/process-site.js';

// The suite looks at workers through /proc.
if (process.platform !== 'linux') describeSkipped('crashes on the process engine', 'Linux only');
else describeCrashes({ engine: 'process', hasPool: true, share: 0.6, open: ProcessSite.open });
