import { describeCrashes } from '../crash/support/describe-crashes.js';
import { KubernetesSite } from './support/kubernetes-site.js';

describeCrashes({ engine: 'kubernetes', share: 0.2, open: () => KubernetesSite.open() });
