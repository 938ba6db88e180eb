import { whyNoDocker, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import { whyNoControlPlane } from '../kubernetes/control-plane/shared.js';
import { describeSkipped } from '../support/skipped.js';
import { describeUpdateCrashes } from './support/describe-update-crashes.js';
import { whyNoDaemon } from './support/docker-daemon.js';
import { DockerSite } from './support/docker-site.js';
import { ProcessSite } from './support/process-site.js';
import { SmallKubernetesSite } from './support/small-kubernetes-site.js';

if (process.platform !== 'linux') describeSkipped('updates among crashes on the process engine', 'Linux only');
else describeUpdateCrashes('process', 0.6, ProcessSite.open);

const reason = (await whyNoDocker(WORKER_IMAGE)) ?? whyNoDaemon();
if (reason === undefined || process.env['REQUIRE_DOCKER'] === '1') {
  describeUpdateCrashes('docker', 0.3, DockerSite.open);
} else {
  describeSkipped('updates among crashes on the docker engine', reason);
}

const noCluster = whyNoControlPlane();
if (noCluster === undefined) {
  describeUpdateCrashes('small kubernetes', 0.15, (_, build) => SmallKubernetesSite.open(build, { hasPool: true }));
} else {
  describeSkipped('updates among crashes on Kubernetes', noCluster);
}
