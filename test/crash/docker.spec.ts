import { describe, it } from 'vitest';
import { whyNoDocker, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import { describeCrashes } from './support/describe-crashes.js';
import { whyNoDaemon } from './support/docker-daemon.js';
import { DockerSite } from './support/docker-site.js';

const reason = (await whyNoDocker(WORKER_IMAGE)) ?? whyNoDaemon();
if (reason === undefined || process.env['REQUIRE_DOCKER'] === '1') {
  describeCrashes({ engine: 'docker', hasPool: true, share: 0.17, open: DockerSite.open });
} else {
  process.stdout.write(`crashes on the docker engine are skipped: ${reason}\n`);
  describe.skip(`crashes on the docker engine (${reason})`, () => it('is skipped', () => {}));
}
