import { describe, expect, it } from 'vitest';
import { wishIn } from './traffic-body.js';

const share = (revision: unknown, percent: unknown, more: object = {}) => ({ revision, percent, ...more });

describe('traffic that is asked for', () => {
  it('is either automatic or a list of targets', () => {
    expect(wishIn({ mode: 'auto' })).toBe('auto');
    const targets = [share(3, 90), share(4, 10, { tag: 'canary' })];
    expect(wishIn({ targets })).toEqual(targets);
    expect(wishIn({ mode: 'targets', targets: [share(1, 100, { tag: null })] })).toEqual([share(1, 100)]);
  });

  it.each([
    [{}, 'targets'],
    [{ mode: 'manual' }, 'mode'],
    [{ mode: 'auto', targets: [] }, 'targets'],
    [{ mode: 'auto', target: [] }, 'target'],
    [{ targets: [] }, 'targets'],
    [{ targets: 'all' }, 'targets'],
    [{ targets: Array.from({ length: 11 }, (_, index) => share(index + 1, index === 0 ? 100 : 0)) }, 'targets'],
    [{ targets: [share(1, 60), share(2, 60)] }, 'targets'],
    [{ targets: [share(1, 50), share(1, 50)] }, 'targets'],
    [{ targets: [share(1, 50, { tag: 'a' }), share(2, 50, { tag: 'a' })] }, 'targets'],
    [{ targets: ['all'] }, 'targets[0]'],
    [{ targets: [share(0, 100)] }, 'targets[0].revision'],
    [{ targets: [share('1', 100)] }, 'targets[0].revision'],
    [{ targets: [share(1, 33.4), share(2, 66.6)] }, 'targets[0].percent'],
    [{ targets: [share(1, 101), share(2, -1)] }, 'targets[0].percent'],
    [{ targets: [share(1, 100, { tag: 'No' })] }, 'targets[0].tag'],
    [{ targets: [share(1, 100, { share: 1 })] }, 'targets[0].share'],
  ])('is refused by the member at fault: %j', (body, field) => {
    expect(() => wishIn(body)).toThrow(expect.objectContaining({ code: 'invalid_update', extras: { field } }));
  });
});
