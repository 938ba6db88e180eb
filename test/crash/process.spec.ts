import { describe, it } from 'vitest';
import { describeCrashes } from './support/describe-crashes.js';
import { ProcessSite } from './support/process-site.js';

// The suite looks at workers through /proc.
if (process.platform !== 'linux')
  describe.skip('crashes on the process engine (Linux only)', () => it('is skipped', () => {}));
else describeCrashes({ engine: 'process', hasPool: true, share: 0.7, open: ProcessSite.open });
