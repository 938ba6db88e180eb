import { describeCrashes } from './support/describe-crashes.js';
import { SmallKubernetesSite } from './support/small-kubernetes-site.js';

// test/kubernetes-cluster runs the same suite on a real cluster.
for (const hasPool of [true, false]) {
  describeCrashes({
    engine: 'small kubernetes',
    hasPool,
    share: hasPool ? 0.07 : 0.03,
    open: (_, build) => SmallKubernetesSite.open(build, { hasPool }),
  });
}
