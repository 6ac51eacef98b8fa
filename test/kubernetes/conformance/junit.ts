/** junit: what ginkgo's report says of the tests that were wanted; it names all of the suite, most of them skipped. */
import { attribute, decode } from "../../../tools/suite.ts";

export interface Verdicts {
  readonly passed: number;
  readonly failures: readonly Failure[];
  readonly skipped: readonly Skipped[];
}

export interface Failure {
  readonly test: string;
  /** The first line of what the test said. */
  readonly reason: string;
}

export interface Skipped {
  readonly test: string;
  readonly reason: string;
}

const LONGEST_REASON = 300;

function firstLine(text: string): string {
  const line = text.trim().split("\n")[0] ?? "";
  return line.length > LONGEST_REASON ? `${line.slice(0, LONGEST_REASON)}…` : line;
}

/**
 * Counts tests whose name the pattern matches. `unfit`: says why this run left a test out, for tests that ginkgo reports as skipped without
 * a reason. A part of the suite that is no test counts where it failed. Undefined: the report holds no test.
 */
export function readVerdicts(
  xml: string,
  wanted: RegExp,
  unfit: (test: string) => string | undefined,
): Verdicts | undefined {
  const failures: Failure[] = [];
  const skipped: Skipped[] = [];
  let passed = 0;
  let seen = 0;
  for (const [, open = "", body = ""] of xml.matchAll(/(<testcase\b[^>]*?)(?:\/>|>([^]*?)<\/testcase>)/g)) {
    seen++;
    const whole = attribute(open, "name");
    const test = whole.replace(/^\[It\] /, "");
    const status = attribute(open, "status");
    if (status === "skipped" || status === "pending") {
      const message = attribute(/<skipped\b[^>]*>/.exec(body)?.[0] ?? "", "message");
      const reason = /^skipped - ([^]*)/.exec(message)?.[1] ?? unfit(test);
      if (reason !== undefined && wanted.test(test)) skipped.push({ test, reason: firstLine(reason) });
    } else if (status !== "passed") {
      const tag = /(<(?:failure|error)\b[^>]*>)([^<]*)/.exec(body);
      const message = attribute(tag?.[1] ?? "", "message");
      failures.push({ test, reason: firstLine(message === "" ? decode(tag?.[2] ?? status) : message) });
    } else if (whole !== test) {
      passed++;
    }
  }
  return seen === 0 ? undefined : { passed, failures, skipped };
}
