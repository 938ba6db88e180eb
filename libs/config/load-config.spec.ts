import { availableParallelism, totalmem } from 'node:os';
import { resolve } from 'node:path';
import fc from 'fast-check';
import pgConnectionString from 'pg-connection-string';
import { describe, expect, it } from 'vitest';
import { poolSizeFor } from '#libs/orchestrator/pool-target.js';
import { InvalidConfig, loadConfig } from './load-config.js';

const KEY = 'a-key-of-sixteen';

function faultsOf(variables: NodeJS.ProcessEnv): readonly string[] {
  try {
    loadConfig(variables);
    return [];
  } catch (error) {
    if (error instanceof InvalidConfig) return error.faults;
    throw error;
  }
}

function serverUrl(variables: NodeJS.ProcessEnv) {
  const { database } = loadConfig(variables);
  if (database.kind !== 'server') throw new Error('The embedded database was chosen.');
  return pgConnectionString.parse(database.url);
}

describe('loadConfig', () => {
  it('needs nothing: loopback, an embedded database, an engine chosen later', () => {
    const config = loadConfig({});
    expect(config.server).toMatchObject({ host: '127.0.0.1', port: 8080, narrowedToLoopback: true });
    expect(config.database.kind).toBe('embedded');
    expect(config.orchestrator.engine).toBeUndefined();
    const auth = { keys: [], disabled: false, origins: [], functionsDomain: '', keyFile: resolve('.data/api-key') };
    expect(config.auth).toEqual(auth);
  });

  it('keeps room for one request at least, whatever else may be held', () => {
    expect(loadConfig({ MAX_PAYLOAD_BYTES: '67108864' }).limits.heldBytes).toBeGreaterThan(6 * 67_108_864);
    expect(loadConfig({ MAX_HELD_BYTES: '123456789' }).limits.heldBytes).toBe(123_456_789);
    const [fault, ...others] = faultsOf({ MAX_HELD_BYTES: '1000000', MAX_PAYLOAD_BYTES: '1000000' });
    expect(fault).toMatch(/^MAX_HELD_BYTES \(1000000\) must be at least \d+/);
    expect(others).toEqual([]);
  });

  it('takes an empty variable for an unset one', () => {
    const empty = { LISTEN_ADDR: '', WORKER_PIDS: '', DATABASE_URL: '', DEPLOYMENT_ENV: '', HARBOR_URL: '' };
    expect(loadConfig(empty)).toEqual(loadConfig({}));
  });

  it("denies workers the private addresses that nobody opens, and names each entry it can't read", () => {
    expect(loadConfig({}).orchestrator.docker.firewall).toEqual({ mode: 'auto', allow: [] });
    const opened = loadConfig({ WORKER_FIREWALL: 'required', WORKER_EGRESS_ALLOW: '10.1.0.0/16, [fd00::1]:443,' });
    expect(opened.orchestrator.docker.firewall).toEqual({
      mode: 'required',
      allow: [
        { family: 4, cidr: '10.1.0.0/16', port: undefined },
        { family: 6, cidr: 'fd00::1/128', port: 443 },
      ],
    });
    expect(faultsOf({ WORKER_EGRESS_ALLOW: '10.0.0.0/8,database,10.0.0.0/99' })).toEqual([
      expect.stringMatching(/^WORKER_EGRESS_ALLOW: "database" must be/),
      expect.stringMatching(/^WORKER_EGRESS_ALLOW: "10.0.0.0\/99" has a prefix beyond/),
    ]);
    expect(faultsOf({ WORKER_FIREWALL: 'off', WORKER_EGRESS_ALLOW: '10.0.0.0/8' })).toHaveLength(1);
  });

  it('keeps as many workers ready as the memory suggests, or as it is told to', () => {
    const { orchestrator } = loadConfig({});
    expect(orchestrator.pool.size).toBe(poolSizeFor(totalmem()));
    expect(orchestrator.clusterPoolSize).toBe(2);
    const told = loadConfig({ WARM_POOL_SIZE: '7' }).orchestrator;
    expect([told.pool.size, told.clusterPoolSize]).toEqual([7, 7]);
    expect(faultsOf({ WARM_POOL_SIZE: 'many' })).toEqual([expect.stringMatching(/^WARM_POOL_SIZE must be /)]);
  });

  it('names every faulty variable at once', () => {
    const faults = faultsOf({
      WORKER_PIDS: 'many',
      LOG_LEVEL: 'loud',
      DEPLOYMENT_ENV: 'mesos',
      LISTEN_ADDR: 'nonsense',
      API_KEYS: 'short',
      POSTGRES_HOST: 'db',
      HARBOR_URL: 'https://harbor',
    });
    for (const name of ['WORKER_PIDS', 'LOG_LEVEL', 'DEPLOYMENT_ENV', 'LISTEN_ADDR', 'API_KEYS', 'HARBOR_USER']) {
      expect(faults.filter((fault) => fault.includes(name))).toHaveLength(1);
    }
    expect(faults.some((fault) => fault.startsWith('POSTGRES_PASSWORD'))).toBe(true);
  });

  it('blames no variable for what follows from another one’s fault', () => {
    expect(faultsOf({ MAX_TIMEOUT_MS: '10', DEFAULT_TIMEOUT_MS: 'soon' })).toEqual([
      'DEFAULT_TIMEOUT_MS must be a whole number',
    ]);
    expect(faultsOf({ LISTEN_ADDR: '10.0.0.1:80', AUTH_DISABLED: 'maybe' })).toHaveLength(1);
  });

  it.each([
    ['WORKER_PIDS', '15', 'at least 16'],
    ['WORKER_PIDS', '1.5', 'whole number'],
    ['POSTGRES_PORT', '65536', 'at most 65535'],
    ['AUTH_DISABLED', 'perhaps', 'true or false'],
    ['DOCKER_NETWORK', '../net', 'network name'],
    ['WORKER_SECCOMP', 'unconfined', 'own or engine'],
    ['DEFAULT_TIMEOUT_MS', '900001', 'MAX_TIMEOUT_MS'],
    ['DATABASE_URL', 'mysql://db', 'postgresql://'],
    ['DATABASE_URL', 'postgresql://[', 'postgresql://'],
    ['LISTEN_ADDR', '::1:8080', 'host:port'],
    ['KUBERNETES_NAMESPACE', 'Functions', 'a namespace'],
    ['KUBERNETES_NAMESPACE', '-a', 'a namespace'],
    ['KUBERNETES_NAMESPACE', 'a'.repeat(64), 'at most 63'],
    ['KUBERNETES_IMAGE_PULL_POLICY', 'Sometimes', 'IfNotPresent, Always or Never'],
    ['KUBERNETES_IMAGE_PULL_SECRET', 'my secret', "a Secret's name"],
    ['KUBERNETES_RUNTIME_CLASS', 'gVisor', "a RuntimeClass's name"],
    ['KUBERNETES_WORKER_SERVICE_ACCOUNT', 'a/b', "a ServiceAccount's name"],
    ['KUBERNETES_REACH', 'address', 'auto, pod, service or proxy'],
    ['KUBERNETES_REQUEST_CPU_MILLIS', '0', 'at least 1'],
    ['HPA_MAX_REPLICAS', '0', 'at least 1'],
    ['HPA_UP_PERIOD_SECONDS', '1801', 'at most 1800'],
    ['HPA_DOWN_WINDOW_SECONDS', '3601', 'at most 3600'],
  ])('refuses %s=%s and says what is allowed', (name, value, told) => {
    const faults = faultsOf({ [name]: value });
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(name);
    expect(faults[0]).toContain(told);
  });

  it('shows no secret in its faults', () => {
    const faults = faultsOf({
      API_KEYS: 'hush,  hush-hush\u00e9-hush-hush',
      DATABASE_URL: 'postgres:user:hush@db',
      HARBOR_PASS: 'hush',
    });
    expect(faults.length).toBeGreaterThan(2);
    expect(faults.join()).not.toContain('hush');
  });

  describe('the cluster', () => {
    it('is described by what the service before this one had', () => {
      const { kubernetes } = loadConfig({}).orchestrator;
      expect(kubernetes).toMatchObject({
        kubeconfig: undefined,
        insideCluster: false,
        namespace: 'scadable-faas',
        imagePullSecret: undefined,
        runtimeClass: undefined,
        hostUsers: true,
        workerServiceAccount: 'faas-worker',
        reach: 'auto',
        requests: { cpuMillis: 100, memoryMiB: 128 },
      });
      expect(kubernetes.autoscale).toEqual({
        maxReplicas: 20,
        cpuPercent: 70,
        memoryPercent: 80,
        upWindowSeconds: 30,
        upPods: 2,
        upPeriodSeconds: 15,
        downWindowSeconds: 120,
        downPods: 1,
        downPeriodSeconds: 60,
      });
    });

    it('takes each variable for what it says', () => {
      const { kubernetes } = loadConfig({
        KUBECONFIG: '/a:/b',
        KUBERNETES_NAMESPACE: 'functions',
        WORKER_IMAGE: 'registry.example/worker:3',
        KUBERNETES_IMAGE_PULL_POLICY: 'Always',
        KUBERNETES_IMAGE_PULL_SECRET: 'registry',
        KUBERNETES_RUNTIME_CLASS: 'gvisor',
        KUBERNETES_HOST_USERS: 'false',
        KUBERNETES_WORKER_SERVICE_ACCOUNT: 'nobody',
        KUBERNETES_REACH: 'service',
        KUBERNETES_REQUEST_CPU_MILLIS: '50',
        KUBERNETES_REQUEST_MEMORY_MIB: '64',
        KUBERNETES_SCHEDULING_PATIENCE_MS: '0',
        HPA_MAX_REPLICAS: '1',
        HPA_UP_WINDOW_SECONDS: '0',
      }).orchestrator;
      expect(kubernetes).toMatchObject({
        kubeconfig: '/a:/b',
        namespace: 'functions',
        image: 'registry.example/worker:3',
        imagePullPolicy: 'Always',
        imagePullSecret: 'registry',
        runtimeClass: 'gvisor',
        hostUsers: false,
        workerServiceAccount: 'nobody',
        reach: 'service',
        requests: { cpuMillis: 50, memoryMiB: 64 },
        schedulingPatienceMs: 0,
        autoscale: { maxReplicas: 1, upWindowSeconds: 0 },
      });
    });

    it('adds to workers’ pods what is JSON of a few parts of a pod', () => {
      const added = { nodeSelector: { disk: 'ssd' }, tolerations: [{ operator: 'Exists' }], priorityClassName: 'low' };
      const { kubernetes } = loadConfig({
        KUBERNETES_WORKER_PODS: JSON.stringify(added),
        KUBERNETES_POOL_PRIORITY_CLASS: 'lower',
      }).orchestrator;
      expect(kubernetes).toMatchObject({ workerPods: added, poolPriorityClass: 'lower' });
      expect(loadConfig({}).orchestrator.kubernetes.workerPods).toEqual({});
      for (const faulty of [
        '{',
        '[]',
        '{"labels":{"func":"x"}}',
        '{"hostNetwork":true}',
        '{"nodeSelector":{"disk":1}}',
      ]) {
        expect(faultsOf({ KUBERNETES_WORKER_PODS: faulty })).toEqual([
          expect.stringMatching(/^KUBERNETES_WORKER_PODS/),
        ]);
      }
    });

    it('has pods fetch packages at an address that is told with the port', () => {
      expect(loadConfig({}).layers.served).toBeUndefined();
      const url = 'http://faas-manager.faas-system.svc:8081/';
      const { layers, orchestrator } = loadConfig({ LAYERS_ADDR: ':8081', LAYERS_URL: url });
      expect(layers.served).toEqual({ host: '::', port: 8081, url: url.slice(0, -1) });
      expect(orchestrator.kubernetes.layers).toEqual(layers);
      for (const faulty of [
        { LAYERS_ADDR: ':8081' },
        { LAYERS_URL: url },
        { LAYERS_ADDR: 'nowhere', LAYERS_URL: url },
        { LAYERS_ADDR: ':8081', LAYERS_URL: 'ftp://manager' },
        { LAYERS_ADDR: ':8081', LAYERS_URL: 'http://user:password@manager' },
        { LAYERS_ADDR: ':8081', LAYERS_URL: 'http://manager/?a=b' },
      ]) {
        expect(faultsOf(faulty)).toEqual([expect.stringMatching(/^LAYERS_(ADDR|URL)/)]);
      }
      const claim = { KUBERNETES_LAYERS_CLAIM: 'layers' };
      const shared = loadConfig({ ...claim, LAYERS_ADDR: ':8081', LAYERS_URL: url }).orchestrator.kubernetes;
      expect(shared.layersClaim).toBe('layers');
      expect(faultsOf(claim)).toEqual([expect.stringMatching('KUBERNETES_LAYERS_CLAIM needs LAYERS_ADDR')]);
    });

    it('is taken for this process’s own only with a token to show there', () => {
      const outside = loadConfig({ KUBERNETES_SERVICE_HOST: '10.96.0.1' }).orchestrator.kubernetes;
      expect(outside.insideCluster).toBe(false);
    });
  });

  describe('who may ask', () => {
    it.each([
      [{ LISTEN_ADDR: ':8080' }, '127.0.0.1'],
      [{ LISTEN_ADDR: '0.0.0.0:1' }, '127.0.0.1'],
      [{ LISTEN_ADDR: '[::1]:1' }, '::1'],
      [{ LISTEN_ADDR: '127.0.0.2:1' }, '127.0.0.2'],
      [{ LISTEN_ADDR: ':8080', API_KEYS: KEY }, '::'],
      [{ LISTEN_ADDR: '10.0.0.1:1', API_KEYS: KEY }, '10.0.0.1'],
      [{ LISTEN_ADDR: '0.0.0.0:1', AUTH_DISABLED: 'yes' }, '0.0.0.0'],
    ])('%j listens on %s', (variables, host) => {
      expect(loadConfig(variables).server.host).toBe(host);
    });

    it.each(['10.0.0.1:80', 'example.org:80', '[2001:db8::1]:80', '0:80', '[0:0::0]:80'])(
      'refuses to serve everybody at %s without a key',
      (address) => expect(faultsOf({ LISTEN_ADDR: address })[0]).toMatch(/not loopback and no API key/),
    );

    it('reads the origins of CORS', () => {
      expect(loadConfig({}).auth.origins).toEqual([]);
      expect(loadConfig({ CORS_ORIGINS: ' https://a.example , http://localhost:3000,' }).auth.origins).toEqual([
        'https://a.example',
        'http://localhost:3000',
      ]);
    });

    it.each([
      '*',
      'null',
      'a.example',
      'https://a.example/',
      'https://A.example',
      'https://a.example:443',
      'https://*.a.example',
      'ftp://a.example',
    ])('refuses %s as an origin', (origin) => {
      expect(faultsOf({ CORS_ORIGINS: `https://b.example,${origin}` })).toEqual([
        `CORS_ORIGINS: "${origin}" must be an exact origin such as https://console.example.org:8443`,
      ]);
    });

    it('takes a bare key for one that may do everything', () => {
      expect(loadConfig({ API_KEYS: KEY }).auth.keys).toEqual([{ name: 'default', scope: 'admin', secret: KEY }]);
      expect(loadConfig({ API_KEYS: ` ${KEY} ,, ${KEY}2 ` }).auth.keys).toEqual([
        { name: 'key-1', scope: 'admin', secret: KEY },
        { name: 'key-2', scope: 'admin', secret: `${KEY}2` },
      ]);
    });

    it('reads names and scopes, parted by commas or by lines', () => {
      const entries = [`ci:deploy:${KEY}1`, `prometheus:metrics:${KEY}:2`, `${KEY}3`];
      const { keys } = loadConfig({ API_KEYS: entries.join(',') }).auth;
      expect(keys).toEqual([
        { name: 'ci', scope: 'deploy', secret: `${KEY}1` },
        { name: 'prometheus', scope: 'metrics', secret: `${KEY}:2` },
        { name: 'key-3', scope: 'admin', secret: `${KEY}3` },
      ]);
      expect(loadConfig({ API_KEYS: `${entries.join('\r\n')}\n\n` }).auth.keys).toEqual(keys);
    });

    it.each([
      [`${KEY},short`, 'API_KEYS entry 2: the key must have at least 16 characters'],
      ['ci:deploy:short', 'API_KEYS entry 1: the key must have at least 16 characters'],
      ['sixteen chars not', 'API_KEYS entry 1: the key may hold visible ASCII characters only'],
      [`ci:${KEY}`, 'API_KEYS entry 1: it must be a key without colons, or name:scope:key'],
      [`ci:root:${KEY}`, 'API_KEYS entry 1: the scope must be admin, deploy, invoke, metrics, as in name:scope:key'],
      [`${KEY},c i:invoke:${KEY}`, 'API_KEYS entry 2: the name may hold letters, digits, ".", "_" and "-", at most 32'],
      [`ci:invoke:${KEY}1,ci:deploy:${KEY}2`, 'API_KEYS entry 2: the name "ci" is taken by another entry'],
      [`ci:invoke:${KEY},${KEY}`, 'API_KEYS entry 2: the key is the same as that of "ci"'],
    ])('refuses %j', (given, fault) => expect(faultsOf({ API_KEYS: given })).toEqual([fault]));

    it('never shows what may be a part of a key', () => {
      const told = faultsOf({ API_KEYS: 'hush:hush:hush,hush:hush,hush hush:admin:hush,hush' });
      expect(told).toHaveLength(4);
      expect(told.join()).not.toContain('hush');
    });

    it('refuses keys that nobody would check', () => {
      expect(faultsOf({ API_KEYS: KEY, AUTH_DISABLED: 'true' })[0]).toMatch(/contradict/);
    });
  });

  describe('the database', () => {
    const text = fc.string({ minLength: 1, unit: 'grapheme' }).filter((value) => !value.includes('\0'));

    // node-postgres's parser leaves escapes of URL syntax in a database's name as they are, so such names are refused.
    const plain = fc
      .string({ minLength: 1, unit: 'grapheme' })
      .filter((value) => !/^\.{1,2}$|[\0;/?:@&=+$,#%]/.test(value));

    it.each(['.', '..', 'a/b', 'a%20b'])('refuses the database name %j', (name) => {
      expect(faultsOf({ POSTGRES_HOST: 'db', POSTGRES_PASSWORD: 'p', POSTGRES_DB: name })).toEqual([
        expect.stringContaining('POSTGRES_DB'),
      ]);
    });

    it('reaches node-postgres with the user, password and database as given, whatever they hold', () => {
      fc.assert(
        fc.property(text, text, plain, fc.integer({ min: 1, max: 65_535 }), (user, password, name, port) => {
          const url = serverUrl({
            POSTGRES_HOST: 'db.example.org',
            POSTGRES_PORT: String(port),
            POSTGRES_USER: user,
            POSTGRES_PASSWORD: password,
            POSTGRES_DB: name,
          });
          expect(url).toMatchObject({ host: 'db.example.org', port: String(port), user, password, database: name });
        }),
      );
    });

    it.each([
      ['127.0.0.1', '127.0.0.1'],
      ['2001:db8::1', '2001:db8::1'],
      ['/var/run/postgresql', '/var/run/postgresql'],
    ])('finds the host %s', (given, host) => {
      expect(serverUrl({ POSTGRES_HOST: given, POSTGRES_PASSWORD: 'p' })).toMatchObject({ host, user: 'postgres' });
    });

    it.each(['two words', 'fe80::1%eth0', 'host:x', 'a/b'])('refuses the host %j by name', (host) => {
      expect(faultsOf({ POSTGRES_HOST: host, POSTGRES_PASSWORD: 'p' })).toEqual([
        expect.stringContaining('POSTGRES_HOST'),
      ]);
    });

    it('prefers a URL, and passes it on as it is', () => {
      const url = 'postgres://u:p%40@h:1/d?sslmode=require';
      expect(loadConfig({ DATABASE_URL: url, POSTGRES_HOST: 'other' }).database).toMatchObject({ kind: 'server', url });
    });
  });
});

describe('MANAGER_WORKERS', () => {
  const processes = (value?: string) => loadConfig({ MANAGER_WORKERS: value }).server.processes;

  it('is one unless told otherwise, and as many as there are processors for when left to the machine', () => {
    expect([processes(), processes(''), processes('3')]).toEqual([1, 1, 3]);
    expect(processes('auto')).toBe(Math.min(64, availableParallelism()));
  });

  it.each(['0', '65', 'many', '1.5', '-1'])('refuses %s and says what it may be', (value) => {
    expect(faultsOf({ MANAGER_WORKERS: value })).toEqual([expect.stringMatching(/^MANAGER_WORKERS must be /)]);
  });
});
