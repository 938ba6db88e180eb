import { describe, expect, it } from 'vitest';
import { lacksExtension, nameserversIn } from './packet-filter.js';

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

describe('lacksExtension', () => {
  it.each([
    "iptables-restore: iptables-restore v1.8.9 (legacy): Couldn't load match `hashlimit':No such file or directory",
    'iptables-restore: iptables: No chain/target/match by that name.',
    'iptables-restore: iptables-restore v1.8.9 (nf_tables): line 7: RULE_APPEND failed (No such file or directory): rule',
    'iptables-restore: Warning: Extension connlimit revision 0 not supported, missing kernel module?',
    'iptables-restore: iptables-restore: line 12 failed',
  ])('tells it by %s', (refusal) => expect(lacksExtension(refusal)).toBe(true));

  it.each([
    'iptables-save: is not installed',
    'iptables-restore: Another app is currently holding the xtables lock; still 1s 0us time ahead to have a chance',
    'iptables-restore did not end in 10000 ms',
    'iptables-save: iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied',
  ])('takes no other refusal for it: %s', (refusal) => expect(lacksExtension(refusal)).toBe(false));
});
