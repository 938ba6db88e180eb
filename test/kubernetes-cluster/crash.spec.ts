import { describeCrashes } from '../crash/support/describe-crashes.js';
import { KubernetesSite } from './support/kubernetes-site.js';

for (const hasPool of [true, false]) {
  describeCrashes({ engine: 'kubernetes', hasPool, share: 0.1, open: () => KubernetesSite.open({ hasPool }) });
}
