import { describe, expect, it } from 'vitest';
import { nameserversIn } from './packet-filter.js';

describe('nameserversIn', () => {
  it.each([
    ['those of the machine', 'nameserver 10.0.0.2\nnameserver fd00::53\nsearch x\n', '', '', ['10.0.0.2', 'fd00::53']],
    ['the real ones behind systemd’s stub', 'nameserver 127.0.0.53\n', 'nameserver 192.168.1.1\n', '', ['192.168.1.1']],
    ['none on loopback, which the engine asks itself', 'nameserver 127.0.0.1\nnameserver ::1\n', '', '', []],
    ['the engine’s own setting', 'nameserver 10.0.0.2\n', '', '{"dns": ["10.9.9.9", "nonsense"]}', ['10.9.9.9']],
    ['none from files that can’t be read', '', '', '{', []],
    ['no nonsense', 'nameserver 10.0.0.2;x\nnameserver $(x)\n', '', '', []],
  ])('knows %s', (_, resolv, resolved, daemon, expected) => {
    expect(nameserversIn(resolv, resolved, daemon)).toEqual(expected);
  });
});
