import { existsSync } from 'node:fs';
import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { say } from '../setup/progress.mjs';

const SHOWN_LINES = 12;
const OF_THE_RUNNER = /^\s+at .*(node_modules|node:internal|new Promise)/;

/** Says what failed, what was skipped and how many passed, and answers the exit code. */
export function closeWith(summaries) {
  const total = (key) => summaries.reduce((sum, summary) => sum + summary[key], 0);
  const [passed, failed, skipped] = [total('passed'), total('failed'), total('skipped')];
  const reasons = summaries.flatMap(({ reasons }) => reasons);
  const failures = summaries.flatMap(({ failures }) => failures);
  if (failures.length > 0) {
    say('\nFailed:');
    for (const failure of failures) {
      const lines = stripVTControlCharacters(failure)
        .split('\n')
        .filter((line) => !OF_THE_RUNNER.test(line));
      say(`  - ${lines.slice(0, SHOWN_LINES).join('\n      ')}`);
    }
  }
  if (reasons.length > 0) {
    say('\nSkipped:');
    for (const reason of reasons) say(`  - ${reason}`);
    for (const fact of factsOf()) say(`  (${fact})`);
  }
  if (passed + failed === 0) say('\nNo test ran: that counts as a failure.');
  say(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  return failed > 0 || passed === 0 || summaries.some(({ ok }) => !ok) ? 1 : 0;
}

/** What vitest's JSON report says. A file that could not even be loaded counts as one failed test. */
export function vitestSummary(text, ok, root) {
  if (text === undefined) return nothingReported('vitest', ok);
  const report = JSON.parse(text);
  const [failures, reasons] = [[], []];
  const summary = { ok, passed: 0, failed: 0, skipped: 0, failures, reasons };
  for (const file of report.testResults) {
    const path = relative(root, file.name);
    const left = new Map();
    let failedHere = 0;
    for (const test of file.assertionResults) {
      if (test.status === 'passed') summary.passed += 1;
      else if (test.status === 'failed') {
        failedHere += 1;
        failures.push(`${path}: ${test.fullName}\n${test.failureMessages.join('\n')}`);
      } else {
        summary.skipped += 1;
        const suite = test.ancestorTitles.find((title) => title !== '') ?? test.title;
        left.set(suite, (left.get(suite) ?? 0) + 1);
      }
    }
    if (failedHere === 0 && file.status === 'failed') {
      failedHere = 1;
      failures.push(`${path}\n${file.message || 'something outside of its tests failed'}`);
    }
    summary.failed += failedHere;
    for (const [suite, count] of left) reasons.push(`${path}: ${suite} (${count})`);
  }
  // Errors outside any test fail the run without failing a test.
  if (!ok && summary.failed === 0 && summary.passed > 0) {
    summary.failed = 1;
    failures.push('vitest: something outside of all tests failed');
  }
  return summary;
}

/** What pytest's JUnit report says; skipped tests are grouped by the reason they give. */
export function pytestSummary(text, ok) {
  const totals = /<testsuite\b([^>]*)>/.exec(text ?? '')?.[1];
  if (totals === undefined) return nothingReported('pytest', ok);
  const count = (name) => Number(attribute(totals, name) ?? 0);
  const failed = count('failures') + count('errors');
  const skipped = count('skipped');
  const left = new Map();
  for (const [tag] of text.matchAll(/<skipped\b[^>]*>/g)) {
    const reason = (attribute(tag, 'message') ?? 'no reason given').replaceAll('\n', ' ');
    left.set(reason, (left.get(reason) ?? 0) + 1);
  }
  const reasons = [...left].map(([reason, times]) => `apps/worker: ${reason} (${times})`);
  const failures = [...text.matchAll(/<testcase\b([^>]*)><(?:failure|error)\b([^>]*)>([^<]*)/g)].map(
    ([, test, failure, told]) => {
      // A file that can't be loaded has why in its text alone.
      const errors = unescape(told).match(/^E .*/gm) ?? [attribute(failure, 'message')];
      return [`apps/worker: ${attribute(test, 'classname')} ${attribute(test, 'name')}`, ...errors].join('\n');
    },
  );
  const passed = Math.max(0, count('tests') - failed - skipped);
  return { ok, passed, failed: failed === 0 && !ok && passed > 0 ? 1 : failed, skipped, failures, reasons };
}

/** Facts about this machine that explain most of what is skipped. */
function factsOf() {
  const facts = [];
  if (!process.env.DOCKER_HOST && !existsSync('/var/run/docker.sock')) {
    facts.push('no Docker engine: neither DOCKER_HOST nor /var/run/docker.sock is there');
  }
  if (!process.env.KUBECONFIG && !existsSync(`${process.env.HOME}/.kube/config`)) {
    facts.push('no Kubernetes cluster: neither KUBECONFIG nor ~/.kube/config is there');
  }
  if (process.getuid?.() !== 0) facts.push('not root: functions as processes run as the same user as these tests');
  return facts;
}

function nothingReported(runner, ok) {
  const failed = ok ? 0 : 1;
  return { ok: false, passed: 0, failed, skipped: 0, failures: [], reasons: [`${runner} wrote no report`] };
}

/** Of a tag of XML. */
function attribute(tag, name) {
  const found = new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1];
  return found && unescape(found);
}

function unescape(text) {
  const named = { quot: '"', apos: "'", lt: '<', gt: '>', amp: '&' };
  return text.replace(/&(quot|apos|lt|gt|amp);/g, (_, name) => named[name]).replace(/&#10;/g, '\n');
}
