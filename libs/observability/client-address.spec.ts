import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { addressOf, clientOf } from './client-address.js';

const addressFrom = (remoteAddress: string | undefined) => addressOf({ socket: { remoteAddress } as Socket });

describe('the address of a client', () => {
  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8::1', '2001:db8::1'],
    [undefined, 'unknown'],
  ])('%s is written as %s', (remote, address) => expect(addressFrom(remote)).toBe(address));

  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['unknown', 'unknown'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['1:2:3:4::', '1:2:3:4::/64'],
  ])('%s is counted as %s', (address, client) => expect(clientOf(address)).toBe(client));
});
