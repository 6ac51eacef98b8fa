/** end: the line with which the guest tells what became of its tests. */
import type { Totals } from "../../tools/suite.ts";

/** What is told of a run. */
export interface End {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The line, by `readEnd` read again. */
export function endOf({ passed, failures, skipped }: Totals): string {
  return `calico-test-kernels: passed=${passed} failed=${failures.length} skipped=${skipped}`;
}

/** What a line of the guest's console tells of the end; undefined: it is another line. */
export function readEnd(line: string): End | undefined {
  const match = /^calico-test-kernels: passed=(\d+) failed=(\d+) skipped=(\d+)\s*$/.exec(line);
  if (match === null) return undefined;
  const [, passed, failed, skipped] = match.map(Number);
  return { passed: passed ?? 0, failed: failed ?? 0, skipped: skipped ?? 0 };
}
