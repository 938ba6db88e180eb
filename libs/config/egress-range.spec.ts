import { describe, expect, it } from 'vitest';
import { type EgressRange, parseEgressRange } from './egress-range.js';

describe('parseEgressRange', () => {
  it.each<[string, EgressRange]>([
    ['10.1.0.0/16', { family: 4, cidr: '10.1.0.0/16', port: undefined }],
    ['10.1.2.3', { family: 4, cidr: '10.1.2.3/32', port: undefined }],
    ['10.1.2.3:5432', { family: 4, cidr: '10.1.2.3/32', port: 5432 }],
    ['192.168.0.0/24:443', { family: 4, cidr: '192.168.0.0/24', port: 443 }],
    ['fd00::/8', { family: 6, cidr: 'fd00::/8', port: undefined }],
    ['fd00::1', { family: 6, cidr: 'fd00::1/128', port: undefined }],
    ['[fd00::1]:443', { family: 6, cidr: 'fd00::1/128', port: 443 }],
    ['[fd00::/64]:443', { family: 6, cidr: 'fd00::/64', port: 443 }],
  ])('reads %s', (entry, range) => {
    expect(parseEgressRange(entry)).toEqual(range);
  });

  it.each([
    ['', /must be/],
    ['database.internal', /must be/],
    ['10.1.0.0/33', /beyond \/32/],
    ['fd00::/129', /beyond \/128/],
    ['10.1.0.0/', /must be/],
    ['10.1.0/16', /must be/],
    ['10.1.2.3:0', /between 1 and 65535/],
    ['10.1.2.3:70000', /between 1 and 65535/],
    ['10.1.2.3:', /must be/],
    ['10.1.2.3 -j ACCEPT', /must be/],
    ['10.1.2.3\n-j ACCEPT', /must be/],
    ['fe80::1%eth0', /must be/],
    ['[10.1.2.3', /must be/],
  ])('refuses "%s"', (entry, message) => {
    expect(parseEgressRange(entry)).toMatch(message);
  });
});
