import { describe, expect, it } from 'vitest';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';
import { smallEngine } from './support/small-room.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

const MOST = 1024 * 1024;

describe.skipIf(noCluster)('code that a ConfigMap must hold [kubernetes]', () => {
  const stage = Stage.on(smallEngine());
  const ofBytes = (count: number) => `${ECHO}#${'x'.repeat(count - ECHO.length - 1)}`;

  it('may have 1 MiB, and runs', async () => {
    const { id } = await stage.manager.add(ofBytes(MOST));
    expect((await stage.manager.call(id, 'large')).text).toBe('{"result":"large"}');
    expect((await stage.manager.remove(id)).status).toBe(204);
  });

  it('is refused with 413 and the number when it has a byte more, and leaves nothing', async () => {
    const answer = await stage.manager.send('/functions', { method: 'POST', ...upload(ofBytes(MOST + 1)) });
    expect(expectProblem(answer, 413, 'upload_too_large').detail).toContain(String(MOST));
    expect((await stage.manager.send('/functions')).text).toBe('[]');
  });
});
