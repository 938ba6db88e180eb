import { whyNoControlPlane } from '../kubernetes/control-plane/shared.js';
import { describeSkipped } from '../support/skipped.js';
import { describeCrashes } from './support/describe-crashes.js';
import { SmallKubernetesSite } from './support/small-kubernetes-site.js';

const reason = whyNoControlPlane();
if (reason !== undefined) describeSkipped('crashes on Kubernetes', reason);
// test/kubernetes-cluster runs the same suite on a whole cluster, without a pool too.
else {
  describeCrashes({
    engine: 'small kubernetes',
    hasPool: true,
    share: 0.15,
    open: (_, build) => SmallKubernetesSite.open(build, { hasPool: true }),
  });
}
