import { whyNoDocker, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import { describeSkipped } from '../support/skipped.js';
import { describeCrashes } from './support/describe-crashes.js';
import { whyNoDaemon } from './support/docker-daemon.js';
import { DockerSite } from './support/docker-site.js';

const reason = (await whyNoDocker(WORKER_IMAGE)) ?? whyNoDaemon();
if (reason === undefined || process.env['REQUIRE_DOCKER'] === '1') {
  describeCrashes({ engine: 'docker', hasPool: true, share: 0.25, open: DockerSite.open });
} else {
  describeSkipped('crashes on the docker engine', reason);
}
