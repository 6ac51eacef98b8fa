import { expect, test } from "bun:test";
import { formatKey, type Key } from "../key.ts";
import {
  MOST_REASON,
  MOST_REPORT,
  type PolicyState,
  readReport,
  type ReportedKind,
  reportOf,
} from "./node-policy-status.ts";

type Entry = readonly [Key<ReportedKind>, PolicyState];

const ENTRIES: readonly Entry[] = [
  [
    { kind: "NetworkPolicy", namespace: "shop", name: "web" },
    { generation: 2, state: "programmed" },
  ],
  [
    { kind: "NetworkPolicy", namespace: "shop", name: "db" },
    { generation: 1, state: "invalid" },
  ],
  [
    { kind: "NetworkPolicy", namespace: "bank", name: "web" },
    { generation: 1, state: "programmed" },
  ],
  [
    { kind: "GlobalNetworkPolicy", namespace: undefined, name: "all" },
    { generation: 7, state: "refused", reason: "E2BIG" },
  ],
];
const OBSERVED = new Map([
  ["NetworkPolicy", 12],
  ["GlobalNetworkPolicy", 9],
] as const);

test("what is written is read again, in whichever order it was given", () => {
  const spec = reportOf(OBSERVED, ENTRIES);
  expect(JSON.stringify(reportOf(OBSERVED, ENTRIES.toReversed()))).toBe(JSON.stringify(spec));
  const read = readReport(JSON.parse(JSON.stringify(spec)));
  expect(read.observed).toEqual(OBSERVED);
  expect(read.policies).toEqual(new Map(ENTRIES.map(([key, state]) => [formatKey(key), state])));
  expect(read.isLeftOut).toBeFalse();
});

function many(count: number, length: number): Entry[] {
  return Array.from({ length: count }, (_, i) => [
    { kind: "NetworkPolicy", namespace: `team-${i % 100}`, name: `policy-${i}`.padEnd(length, "x") },
    { generation: 1 + (i % 9), state: "programmed" },
  ]);
}

test("10,000 policies with names of 60 characters stay below 1 MB", () => {
  const text = JSON.stringify(reportOf(OBSERVED, many(10_000, 60)));
  expect(text.length).toBeLessThan(MOST_REPORT);
  expect(text).not.toContain("leftOut");
});

test("what does not fit is counted, and nothing is known of any policy", () => {
  const entries: Entry[] = [...many(10_000, 120), ...ENTRIES];
  const spec = reportOf(OBSERVED, entries);
  expect(spec).toEqual({
    observed: { NetworkPolicy: "12", GlobalNetworkPolicy: "9" },
    leftOut: { programmed: 10_002, invalid: 1, refused: 1 },
  });
  const { isLeftOut, policies } = readReport(spec);
  expect([isLeftOut, policies.size]).toEqual([true, 0]);
});

test("a reason is cut", () => {
  const key = { kind: "ClusterNetworkPolicy", namespace: undefined, name: "c" } as const;
  const spec = reportOf(OBSERVED, [[key, { generation: 1, state: "refused", reason: "r".repeat(10_000) }]]);
  expect(readReport(spec).policies.get(formatKey(key))?.reason?.length).toBe(MOST_REASON);
});

test.each([
  [undefined],
  [{ observed: 3, policies: "x" }],
  [{ policies: [null, { kind: "Pod", programmed: { a: 1 } }] }],
  [{ observed: { NetworkPolicy: 7, Pod: "3" } }],
])("what cannot be read says nothing: %j", (spec) => {
  expect(readReport(spec)).toEqual({ observed: new Map(), policies: new Map(), isLeftOut: false });
});

test("a generation that is no number is older than any", () => {
  const { policies } = readReport({ policies: [{ kind: "GlobalNetworkPolicy", programmed: { a: "1" } }] });
  expect([...policies.values()]).toEqual([{ state: "programmed", generation: -1 }]);
});
