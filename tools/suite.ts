/**
 * suite: runs test files in a Bun process of their own and reads from its report what passed and what failed, and why.
 *
 * A process that dies, or reports nothing, counts as a failure: no test may end a run early with a good exit code.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";

export interface Totals {
  passed: number;
  skipped: number;
  /** One text for each failure: the suite, the test's name and what it said. */
  readonly failures: string[];
}

export interface Suite {
  readonly name: string;
  readonly paths: readonly string[];
  /** For each test. */
  readonly timeoutSeconds: number;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** What it prints, as it comes. */
  readonly onPrint?: (text: string) => void;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** Text of XML without its entities. */
export function decode(text: string): string {
  return text.replace(
    /&(?:#(\d+)|#x([0-9a-fA-F]+)|(\w+));/g,
    (whole, decimal: string | undefined, hex: string | undefined, name: string | undefined) => {
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
      return hex === undefined ? (ENTITIES[name ?? ""] ?? whole) : String.fromCodePoint(Number.parseInt(hex, 16));
    },
  );
}

/** What an attribute of a tag says, empty when it is not there. */
export function attribute(tag: string, name: string): string {
  return decode(new RegExp(`\\s${name}="([^"]*)"`).exec(tag)?.[1] ?? "");
}

/** What Bun's JUnit report says; undefined where it holds no test. */
export function readReport(suite: string, xml: string): Totals | undefined {
  const head = /<testsuites\b[^>]*>/.exec(xml)?.[0];
  if (head === undefined || attribute(head, "tests") === "0") return undefined;
  const skipped = Number(attribute(head, "skipped"));
  const failures: string[] = [];
  for (const [, open = "", body = ""] of xml.matchAll(/(<testcase\b[^>]*[^>/]>)([^]*?)<\/testcase>/g)) {
    const failure = /(<(?:failure|error)\b[^>]*>)(?:([^<]*)<)?/.exec(body);
    if (failure === null) continue;
    const [, tag = "", text = ""] = failure;
    const where = [suite, attribute(open, "file"), attribute(open, "classname"), attribute(open, "name")]
      .filter((part) => part !== "")
      .join(" > ");
    failures.push(`${where}\n${(text === "" ? attribute(tag, "message") : decode(text)).trimEnd()}`);
  }
  return { passed: Number(attribute(head, "tests")) - failures.length - skipped, skipped, failures };
}

export interface Ran extends Totals {
  /** All that it printed. */
  readonly printed: string;
  readonly wallSeconds: number;
  /** Of its process and of those that it waited for. */
  readonly cpuSeconds: number;
}

async function readText(
  stream: ReadableStream<Uint8Array>,
  onPrint: (text: string) => void = () => {},
): Promise<string> {
  const decoder = new TextDecoder();
  let whole = "";
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    onPrint(text);
    whole += text;
  }
  return whole;
}

/** Runs it to its end, whatever becomes of its process. */
export async function runSuite(suite: Suite): Promise<Ran> {
  const begun = performance.now();
  const directory = mkdtempSync(`${tmpdir()}/calico-test-`);
  const report = `${directory}/junit.xml`;
  const command = [
    process.execPath,
    "test",
    `--timeout=${suite.timeoutSeconds * 1000}`,
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    ...suite.paths,
  ];
  const child = Bun.spawn(command, {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    // What kubectl remembers of a server is filed by its address, which another run's server may have had.
    env: { ...process.env, KUBECACHEDIR: `${directory}/kubectl`, ...suite.env },
  });
  const printed = await Promise.all([child.stdout, child.stderr].map((stream) => readText(stream, suite.onPrint)));
  const exitCode = await child.exited;
  const totals = existsSync(report) ? readReport(suite.name, readFileSync(report, "utf8")) : undefined;
  rmSync(directory, { recursive: true, force: true });
  const ended = `${suite.name}: ended with exit code ${exitCode}`;
  const cost = {
    printed: printed.join(""),
    wallSeconds: (performance.now() - begun) / 1000,
    cpuSeconds: Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1e6,
  };
  if (totals === undefined) return { passed: 0, skipped: 0, failures: [`${ended} and no report`], ...cost };
  if (exitCode !== 0 && totals.failures.length === 0) totals.failures.push(`${ended} though no test failed`);
  return { ...totals, ...cost };
}

/** What a run ends with: every failure again, for the place where it came is far above, and the line of totals. */
export function conclude({ passed, failures, skipped }: Totals): { readonly text: string; readonly exitCode: number } {
  const again =
    failures.length === 0
      ? ""
      : `\n== failed\n${failures.map((failure) => failure.replaceAll("\n", "\n    ")).join("\n")}\n`;
  return {
    text: `${again}\n${passed} passed, ${failures.length} failed, ${skipped} skipped`,
    exitCode: failures.length === 0 && passed > 0 ? 0 : 1,
  };
}
