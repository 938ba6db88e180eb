import { describeCrashes } from './support/describe-crashes.js';
import { SmallKubernetesSite } from './support/small-kubernetes-site.js';

// test/kubernetes-cluster runs the same suite on a real cluster.
describeCrashes({ engine: 'small kubernetes', share: 0.12, open: SmallKubernetesSite.open });
