/** The import rules of docs/architecture.md. */
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'] } },
    {
      name: 'libs-never-import-apps',
      severity: 'error',
      from: { path: '^libs/' },
      to: { path: '^apps/' },
    },
    {
      name: 'providers-import-the-port-only',
      comment: 'A provider knows the port, its configuration and the errors, never another provider.',
      severity: 'error',
      from: { path: '^libs/(orchestrator-[a-z]+)/' },
      to: { path: '^libs/orchestrator-[a-z]+/', pathNot: '^libs/$1/' },
    },
    {
      name: 'the-port-knows-no-provider',
      severity: 'error',
      from: { path: '^libs/orchestrator/' },
      to: { path: '^libs/orchestrator-[a-z]+/' },
    },
    {
      name: 'dockerode-stays-in-its-provider',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: '^libs/orchestrator-docker/' },
      to: { path: 'node_modules/dockerode' },
    },
    {
      name: 'the-kubernetes-client-stays-in-its-provider',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: '^libs/orchestrator-kubernetes/' },
      to: { path: 'node_modules/@kubernetes/client-node' },
    },
    {
      name: 'only-the-orchestrator-module-names-providers',
      severity: 'error',
      from: { path: '^apps/', pathNot: '^apps/manager/src/orchestrator/orchestrator\\.module\\.ts$' },
      to: { path: '^libs/orchestrator-[a-z]+/' },
    },
    {
      name: 'gateway-and-reconciler-meet-in-the-row',
      severity: 'error',
      from: { path: '^apps/manager/src/(gateway|reconciler)/' },
      to: { path: '^apps/manager/src/(gateway|reconciler)/', pathNot: '^apps/manager/src/$1/' },
    },
    {
      name: 'calls-and-steps-know-no-http',
      comment: 'Whoever makes a call goes through the Invoker; only its HTTP side knows requests and responses.',
      severity: 'error',
      from: {
        path: '^apps/manager/src/(gateway|scaling|reconciler)/',
        pathNot:
          '(^apps/manager/src/gateway/(call-(body|edge)|execution\\.(controller|http)|http-(calls|headers)|request-body)\\.ts|\\.spec\\.ts)$',
      },
      to: { path: '^(node:)?https?$|node_modules/(@types/)?express|^apps/manager/src/http/' },
    },
    {
      name: 'functions-and-revisions-know-neither-plane',
      severity: 'error',
      from: { path: '^apps/manager/src/(functions|revisions)/' },
      to: { path: '^apps/manager/src/(gateway|reconciler|scaling|health)/' },
    },
    {
      name: 'apps-know-no-other-app',
      severity: 'error',
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'the-command-line-loads-little',
      comment: 'What it imports is in its one file, and read at each start.',
      severity: 'error',
      from: { path: '^apps/cli/', pathNot: '\\.spec\\.ts$' },
      to: {
        path: '^libs/|node_modules/',
        pathNot: '^libs/(config/version|observability/escape-controls)\\.ts$|node_modules/(commander|yaml)/',
      },
    },
    {
      name: 'production-code-imports-no-tests',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: '(\\.spec\\.ts$|/testing/)' },
      to: { path: '(\\.spec\\.ts$|/testing/|^test/)' },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    // Programs of other projects: each is run beside a client that is made for it.
    exclude: { path: '^test/clients/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['source', 'import', 'node', 'default'],
    },
  },
};
