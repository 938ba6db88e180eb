import { describe, expect, it } from 'vitest';
import { type Bridge, chainsFor, type FirewallPolicy } from './firewall-rules.js';

const NETWORK = 'abcdef0123456789';
const BRIDGE: Bridge = { network: NETWORK, name: 'br-abcdef012345', internal: false };
const POLICY: FirewallPolicy = { allow: [], resolvers: [], tracked: 262_144 };

function rulesOf(part: string, changes: Partial<FirewallPolicy> = {}, family: 4 | 6 = 4, bridge = BRIDGE): string[] {
  const chain = chainsFor(bridge, { ...POLICY, ...changes }, family).find(({ name }) => name.endsWith(`-${part}`));
  return [...(chain?.rules ?? [])];
}

describe('chainsFor', () => {
  it('lets what is known through first, in every chain that packets enter', () => {
    for (const { rules, jump } of chainsFor(BRIDGE, POLICY, 4))
      if (jump !== undefined) expect(rules[0]).toMatch(/--ctstatus CONFIRMED -j RETURN$/);
  });

  it('touches nothing but packets of the bridge', () => {
    for (const family of [4, 6] as const)
      for (const { jump, name } of chainsFor(BRIDGE, POLICY, family)) {
        if (jump !== undefined) expect(jump.match).toMatch(/^-[io] br-abcdef012345$/);
        expect(name).toMatch(/^FAAS-abcdef012345-/);
        expect(name.length).toBeLessThan(29);
      }
  });

  it('never accepts: what passes goes on to the machine’s own rules', () => {
    const open = [{ family: 4, cidr: '10.1.0.0/16', port: 443 } as const];
    const rules = chainsFor(BRIDGE, { ...POLICY, allow: open }, 4).flatMap((chain) => chain.rules);
    for (const rule of rules) expect(rule).toMatch(/(^| )-j (RETURN|DROP|REJECT --reject-with \S+|FAAS-\S+-DENY)$/);
  });

  it.each([
    ['10.0.0.0/8', 4],
    ['172.16.0.0/12', 4],
    ['192.168.0.0/16', 4],
    ['100.64.0.0/10', 4],
    ['169.254.0.0/16', 4],
    ['127.0.0.0/8', 4],
    ['224.0.0.0/4', 4],
    ['168.63.129.16/32', 4],
    ['fc00::/7', 6],
    ['fe80::/10', 6],
    ['ff00::/8', 6],
    ['64:ff9b::a9fe:0/112', 6],
    ['64:ff9b::a00:0/104', 6],
  ] as const)('denies %s', (range, family) => {
    expect(rulesOf('OUT', {}, family)).toContain(`-d ${range} -j FAAS-abcdef012345-DENY`);
  });

  it('leaves the internet open, unless the network has no way out', () => {
    expect(rulesOf('OUT').at(-1)).toMatch(/^-d /);
    const internal = rulesOf('OUT', { allow: [{ family: 4, cidr: '10.0.0.0/8', port: undefined }] }, 4, {
      ...BRIDGE,
      internal: true,
    });
    expect(internal).toHaveLength(2);
    expect(internal[1]).toBe('-j FAAS-abcdef012345-DENY');
  });

  it('lets only this machine itself open connections to workers', () => {
    expect(rulesOf('IN').slice(1)).toEqual(['-j DROP']);
  });

  it('opens what is allowed before it denies, in its own family', () => {
    const allow = [
      { family: 4, cidr: '10.1.0.0/16', port: undefined },
      { family: 6, cidr: 'fd00::1/128', port: 443 },
    ] as const;
    const out = rulesOf('OUT', { allow });
    expect(out.indexOf('-d 10.1.0.0/16 -j RETURN')).toBeGreaterThan(0);
    expect(out.indexOf('-d 10.1.0.0/16 -j RETURN')).toBeLessThan(out.findIndex((rule) => rule.startsWith('-d 10.0.')));
    expect(out.join()).not.toContain('fd00::1');
    expect(rulesOf('OUT', { allow }, 6)).toContain('-d fd00::1/128 -p tcp -m tcp --dport 443 -j RETURN');
  });

  it('opens this machine for a port alone: an address of its own may lie in any range', () => {
    const allow = [
      { family: 4, cidr: '10.0.0.0/8', port: undefined },
      { family: 4, cidr: '10.1.2.3/32', port: 5432 },
    ] as const;
    const opened = rulesOf('HOST', { allow }).filter((rule) => rule.startsWith('-d '));
    expect(opened).toEqual([
      '-d 10.1.2.3/32 -p tcp -m tcp --dport 5432 -j RETURN',
      '-d 10.1.2.3/32 -p udp -m udp --dport 5432 -j RETURN',
    ]);
    expect(rulesOf('HOST', { allow }).at(-1)).toBe('-j FAAS-abcdef012345-DENY');
  });

  it('opens port 53 of the name servers and nothing else of them', () => {
    const out = rulesOf('OUT', { resolvers: ['169.254.169.254', 'fd00::53'] }).filter((rule) =>
      rule.includes('169.254.169.254'),
    );
    expect(out).toEqual([
      '-d 169.254.169.254/32 -p tcp -m tcp --dport 53 -j RETURN',
      '-d 169.254.169.254/32 -p udp -m udp --dport 53 -j RETURN',
    ]);
  });

  it('bounds what one worker and what all of them keep in the table of connections', () => {
    const [, ownRate, own, allRate, all] = rulesOf('OUT');
    expect(ownRate).toContain('--hashlimit-above 64/sec');
    expect(own).toContain('--connlimit-above 512 --connlimit-mask 32');
    expect(allRate).toContain(`--hashlimit-above ${Math.floor(262_144 / 2 / 120)}/sec`);
    expect(all).toContain(`--connlimit-above ${262_144 / 4} --connlimit-mask 0`);
    for (const rule of [ownRate, allRate])
      expect(/--hashlimit-name (\S+)/.exec(rule ?? '')?.[1]?.length).toBeLessThan(16);
    expect(rulesOf('OUT', { tracked: undefined }).join()).not.toContain('limit');
  });
});
