import { describe, expect, it } from 'vitest';
import { type Bridge, type Chain, chainsFor, type FirewallPolicy } from './firewall-rules.js';
import { removals, repairs, shellScript } from './rule-scripts.js';

const BRIDGE: Bridge = { network: 'abcdef0123456789', name: 'br-abcdef012345', internal: false };
const POLICY: FirewallPolicy = { allow: [], resolvers: [], tracked: 262_144 };
const EMPTY = `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\nCOMMIT\n`;
const JUMPS = [
  '-A INPUT -i br-abcdef012345 -j FAAS-abcdef012345-HOST',
  '-A DOCKER-USER -o br-abcdef012345 -j FAAS-abcdef012345-IN',
  '-A DOCKER-USER -i br-abcdef012345 -j FAAS-abcdef012345-OUT',
];

/** What iptables-save shows once the chains are there. */
function saved(chains: readonly Chain[], jumps = JUMPS): string {
  const lines = chains.flatMap(({ name, rules }) => rules.map((rule) => `-A ${name} ${rule}`));
  const names = chains.map(({ name }) => `:${name} - [0:0]`);
  return EMPTY.replace('-A FORWARD', `${names.join('\n')}\n-A FORWARD`).replace(
    '-A DOCKER-USER -j RETURN',
    [...jumps, '-A DOCKER-USER -j RETURN', ...lines].join('\n'),
  );
}

describe('repairs', () => {
  const wanted = chainsFor(BRIDGE, POLICY, 4);

  it('sets everything at once where there is nothing', () => {
    const script = repairs(EMPTY, wanted) ?? '';
    expect(script).toMatch(/^\*filter\n:FAAS-/);
    expect(script).toMatch(/COMMIT\n$/);
    for (const jump of JUMPS) expect(script).toContain(jump.replace(/^-A (\S+)/, '-I $1 1'));
  });

  it('does nothing where all is as it should be', () => {
    expect(repairs(saved(wanted), wanted)).toBeUndefined();
  });

  it('jumps from FORWARD where the engine has no chain for others’ rules', () => {
    expect(repairs(EMPTY.replace(/.*DOCKER-USER.*\n/g, ''), wanted)).toContain('-I FORWARD 1 -i br-abcdef012345');
  });

  it('sets the chains again after a change of the policy, and leaves the jumps', () => {
    const before = chainsFor(BRIDGE, { ...POLICY, allow: [{ family: 4, cidr: '10.0.0.0/8', port: undefined }] }, 4);
    const script = repairs(saved(before), wanted);
    expect(script).toContain('-A FAAS-abcdef012345-OUT');
    expect(script).not.toContain('-I ');
  });

  it.each([
    ['was flushed', (text: string) => text.replace(/-A FAAS-\S+-OUT .*\n/g, '')],
    ['lost a rule', (text: string) => text.replace(/-A FAAS-\S+-OUT -d 10.*\n/, '')],
  ])('sets a chain again that %s', (_, tamper) => {
    expect(repairs(tamper(saved(wanted)), wanted)).toContain('-A FAAS-abcdef012345-OUT -d 10.0.0.0/8');
  });

  it('puts a jump back that is missing, stands twice or comes late', () => {
    const [host = '', ...others] = JUMPS;
    const back = '-I INPUT 1 -i br-abcdef012345 -j FAAS-abcdef012345-HOST';
    const drop = '-D INPUT -i br-abcdef012345 -j FAAS-abcdef012345-HOST';
    expect(repairs(saved(wanted, others), wanted)).toBe(`*filter\n${back}\nCOMMIT\n`);
    expect(repairs(saved(wanted, [host, ...JUMPS]), wanted)).toBe(`*filter\n${drop}\n${drop}\n${back}\nCOMMIT\n`);
    const late = ['-A INPUT -i br-other -j ACCEPT', ...JUMPS];
    expect(repairs(saved(wanted, late), wanted)).toBe(`*filter\n${drop}\n${back}\nCOMMIT\n`);
  });

  it('leaves other networks’ chains alone while their bridge is there, and removes them afterwards', () => {
    const other = { network: '999999999999aaaa', name: 'workers0', internal: false };
    const theirs = chainsFor(other, POLICY, 4);
    const jumps = theirs.flatMap(({ name, jump }) =>
      jump === undefined ? [] : `-A ${jump.from === 'FORWARD' ? 'DOCKER-USER' : 'INPUT'} ${jump.match} -j ${name}`,
    );
    const both = saved([...wanted, ...theirs], [...jumps, ...JUMPS]);
    expect(removals(both, wanted, (name) => name === 'workers0')).toBeUndefined();
    const script = removals(both, wanted, (name) => name === BRIDGE.name) ?? '';
    expect(script.match(/^-D /gm)).toHaveLength(3);
    expect(script.match(/^-X FAAS-999999999999-/gm)).toHaveLength(theirs.length);
    expect(script).not.toContain('abcdef012345');
    expect(repairs(both, wanted)).toBeUndefined();
  });
});

describe('shellScript', () => {
  it('sets the same rules in both families', () => {
    const script = shellScript([{ bridge: BRIDGE, policy: POLICY }], [4, 6]);
    for (const family of [4, 6] as const)
      for (const { name, rules } of chainsFor(BRIDGE, POLICY, family))
        for (const rule of rules) expect(script).toContain(`-A ${name} ${rule}\n`);
    expect(script).toContain('ip6tables-restore -w 5 --noflush');
  });
});
