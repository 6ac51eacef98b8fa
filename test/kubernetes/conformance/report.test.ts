/** What is read from ginkgo's output and report, and what becomes of it. */
import { describe, expect, test } from "bun:test";
import { readVerdicts } from "./junit.ts";
import { formatMarkdown, formatTable, type Row } from "./report.ts";
import { follower, PATTERNS } from "./suites.ts";

const XML = `<?xml version="1.0" encoding="UTF-8"?>
  <testsuites tests="7">
      <testsuite name="Kubernetes e2e suite" tests="7">
          <testcase name="[SynchronizedBeforeSuite]" classname="s" status="passed" time="1"></testcase>
          <testcase name="[It] [sig-network] Netpol allows &#34;all&#34; [Feature:NetworkPolicy]" status="passed" time="1"><system-err>&lt;testcase name=&#34;no&#34;</system-err></testcase>
          <testcase name="[It] [sig-network] Netpol denies" status="failed" time="2"><failure message="Had 2 wrong results &lt;nil&gt;&#xA;more" type="failed">[FAILED] x</failure></testcase>
          <testcase name="[It] [sig-network] Netpol SCTP works" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
          <testcase name="[It] [sig-network] Netpol needs Windows" status="skipped" time="0"><skipped message="skipped - only on Windows"></skipped></testcase>
          <testcase name="[It] [sig-network] Services SCTP works" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
          <testcase name="[It] [sig-apps] Deployments roll" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
          <testcase name="[It] [sig-network] Netpol panics" status="panicked" time="0"><error message="" type="panicked">nil map
at x.go</error></testcase>
      </testsuite>
  </testsuites>`;

const unfit = (name: string): string | undefined => (name.includes("SCTP") ? "no SCTP" : undefined);

describe("a report", () => {
  test("counts tests, with the reasons of those that failed or were skipped, and nothing else that was left out", () => {
    expect(readVerdicts(XML, /Netpol/, unfit)).toEqual({
      passed: 1,
      failures: [
        { test: "[sig-network] Netpol denies", reason: "Had 2 wrong results <nil>" },
        { test: "[sig-network] Netpol panics", reason: "nil map" },
      ],
      skipped: [
        { test: "[sig-network] Netpol SCTP works", reason: "no SCTP" },
        { test: "[sig-network] Netpol needs Windows", reason: "only on Windows" },
      ],
    });
  });

  test("whose set-up failed has a failure", () => {
    const xml = `<testcase name="[SynchronizedBeforeSuite]" status="failed"><failure message="no nodes" type="failed"></failure></testcase>`;
    expect(readVerdicts(xml, /Netpol/, unfit)?.failures).toEqual([
      { test: "[SynchronizedBeforeSuite]", reason: "no nodes" },
    ]);
  });

  test("without a test is none", () => expect(readVerdicts("<testsuites/>", /x/, unfit)).toBeUndefined());
});

test("a focus with alternatives stays within its suite", () => {
  for (const [suite, own] of [
    ["netpol", "[sig-network] Netpol allows UDP"],
    ["conformance", "[sig-network] Services serve UDP [Conformance]"],
  ] as const) {
    const pattern = new RegExp(PATTERNS[suite]("egress|UDP|CIDR"));
    expect(pattern.test(own)).toBe(true);
    expect(pattern.test("[sig-apps] Jobs send UDP")).toBe(false);
  }
});

test("each test that ends gives a line", () => {
  const lines: string[] = [];
  const follow = follower((line) => lines.push(line));
  for (const line of [
    "Will run 3 of 7197 specs",
    "------------------------------",
    "• [12.345 seconds]",
    "[sig-network] Netpol allows",
    "  a line of its log: [3.000 seconds]",
    "• [FAILED] [7.001 seconds]",
    "[sig-network] Netpol denies",
    "S [SKIPPED] [0.100 seconds]",
    "[sig-network] Netpol needs",
    "[ReportAfterSuite] PASSED [0.010 seconds]",
  ])
    follow(line);
  expect(lines).toEqual([
    "1 of 3 passed in 12 s: [sig-network] Netpol allows",
    "2 of 3 failed in 7 s: [sig-network] Netpol denies",
    "3 of 3 skipped in 0 s: [sig-network] Netpol needs",
  ]);
});

const ROWS: readonly Row[] = (["nftables", "ebpf"] as const).map((dataplane, index) => ({
  suite: "netpol",
  dataplane,
  outcome: {
    passed: 47 - index,
    failures: index === 0 ? [] : [{ test: "denies", reason: "wrong" }],
    skipped: [{ test: "SCTP", reason: "no SCTP" }],
    minutes: 10.04,
  },
}));

test("the table has a row for each suite and dataplane, and the reasons below", () => {
  expect(formatTable(ROWS)).toBe(`suite   dataplane  passed  failed  skipped  minutes
netpol  nftables       47       0        1     10.0
netpol  ebpf           46       1        1     10.0

failed:

- netpol on ebpf: denies: wrong

skipped:

- 1 of netpol: no SCTP`);
});

test("the markdown says the day, and what was left out", () => {
  const text = formatMarkdown(ROWS, "ingress", new Date("2026-11-30T05:00:00Z"));
  expect(text).toContain("2026-11-30. Only tests whose name matches `ingress`.\n\n| suite | dataplane |");
  expect(text).toContain("| netpol | ebpf | 46 | 1 | 1 | 10.0 |");
});
