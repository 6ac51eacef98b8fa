/** report: what a run found, as a table for people and as markdown for `docs/conformance.md`. */
import { release } from "node:os";
import type { Dataplane } from "../../dataplane.ts";
import versions from "../versions.json";
import type { Outcome, SuiteName } from "./suites.ts";

export interface Row {
  readonly suite: SuiteName;
  readonly dataplane: Dataplane;
  readonly outcome: Outcome;
}

const HEAD = ["suite", "dataplane", "passed", "failed", "skipped", "minutes"] as const;

function cells({ suite, dataplane, outcome }: Row): readonly string[] {
  const { passed, failures, skipped, minutes } = outcome;
  return [suite, dataplane, String(passed), String(failures.length), String(skipped.length), minutes.toFixed(1)];
}

/** How many were skipped for each reason. */
function reasons(rows: readonly Row[]): readonly string[] {
  const tests = new Map<string, Set<string>>();
  for (const { outcome, suite } of rows) {
    for (const { test, reason } of outcome.skipped) {
      const key = `${suite}: ${reason}`;
      tests.set(key, (tests.get(key) ?? new Set()).add(test));
    }
  }
  return [...tests].map(([reason, { size }]) => `${size} of ${reason}`);
}

function failuresOf(rows: readonly Row[]): readonly string[] {
  return rows.flatMap(({ suite, dataplane, outcome }) =>
    outcome.failures.map(({ test, reason }) => `${suite} on ${dataplane}: ${test}: ${reason}`),
  );
}

function list(title: string, items: readonly string[]): readonly string[] {
  return items.length === 0 ? [] : ["", title, "", ...items.map((item) => `- ${item}`)];
}

/** Columns of equal width. */
export function formatTable(rows: readonly Row[]): string {
  const lines = [HEAD, ...rows.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const padded = lines.map((line) =>
    line
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
  return [...padded, ...list("failed:", failuresOf(rows)), ...list("skipped:", reasons(rows))].join("\n");
}

/** `focus`: what of the suites was wanted, empty for all. */
export function formatMarkdown(rows: readonly Row[], focus: string, date: Date): string {
  const line = (columns: readonly string[]): string => `| ${columns.join(" | ")} |`;
  const part = focus === "" ? "" : ` Only tests whose name matches \`${focus}\`.`;
  return [
    `Kubernetes ${versions.kubernetes.version}, containerd 1 and ${versions.containerd.version.slice(1)}, Linux ${release()}, ${date.toISOString().slice(0, 10)}.${part}`,
    "",
    line(HEAD),
    line(HEAD.map(() => "---")),
    ...rows.map((row) => line(cells(row))),
    ...list("Failed:", failuresOf(rows)),
    ...list("Skipped:", reasons(rows)),
    "",
  ].join("\n");
}
