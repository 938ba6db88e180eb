import { whyNoControlPlane } from '../kubernetes/control-plane/shared.js';
import { describeSkipped } from '../support/skipped.js';
import { describeCrashes } from './support/describe-crashes.js';
import { SmallKubernetesSite } from './support/small-kubernetes-site.js';

const reason = whyNoControlPlane();
if (reason !== undefined) describeSkipped('crashes on Kubernetes', reason);
// test/kubernetes-cluster runs the same suite on a whole cluster.
for (const hasPool of reason === undefined ? [true, false] : []) {
  describeCrashes({
    engine: 'small kubernetes',
    hasPool,
    share: hasPool ? 0.1 : 0.03,
    open: (_, build) => SmallKubernetesSite.open(build, { hasPool }),
  });
}
