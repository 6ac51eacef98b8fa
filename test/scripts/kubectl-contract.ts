/**
 * KubectlContract: one session of an operator with kubectl and raw requests, held against whatever API server KUBECONFIG names: the
 * embedded API or a real kube-apiserver. `KUBECONFIG=… bun test/scripts/kubectl-contract.ts [--kubectl PATH]`.
 *
 * Prints a line for each exchange that differs from what Kubernetes answers, then "N exchanges, N differ"; ends with 1 when any does.
 * Works in namespaces and kinds of its own (a random suffix) and removes them.
 */
export interface Exchange {
  readonly name: string;
  readonly differences: readonly string[];
}

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What an exchange must answer: text that must occur, patterns that must match. */
interface Expected {
  readonly exit?: number;
  readonly stdout?: readonly (string | RegExp)[];
  readonly stderr?: readonly (string | RegExp)[];
}

export class Session {
  readonly exchanges: Exchange[] = [];
  /** Random, so that sessions side by side do not meet. */
  readonly suffix = Buffer.from(crypto.getRandomValues(new Uint8Array(3))).toString("hex");
  readonly #kubectl: string;
  readonly #environment: Readonly<Record<string, string | undefined>>;

  constructor(kubectl: string, environment: Readonly<Record<string, string | undefined>>) {
    this.#kubectl = kubectl;
    this.#environment = environment;
  }

  get namespace(): string {
    return `contract-${this.suffix}`;
  }

  async run(args: readonly string[], input = ""): Promise<Outcome> {
    const child = Bun.spawn([this.#kubectl, ...args], { stdin: Buffer.from(input), stdout: "pipe", stderr: "pipe", env: this.#environment });
    const [stdout, stderr, exitCode] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
    return { exitCode, stdout, stderr };
  }

  /** Runs kubectl and records what differs from the expectation. */
  async check(name: string, args: readonly string[], expected: Expected, input = ""): Promise<Outcome> {
    const outcome = await this.run(args, input);
    const differences: string[] = [];
    const wantedExit = expected.exit ?? 0;
    if (outcome.exitCode !== wantedExit) differences.push(`exit code ${outcome.exitCode}, not ${wantedExit}: ${outcome.stderr.trim()}`);
    for (const stream of ["stdout", "stderr"] as const) {
      for (const wanted of expected[stream] ?? []) {
        const found = typeof wanted === "string" ? outcome[stream].includes(wanted) : wanted.test(outcome[stream]);
        if (!found) differences.push(`${stream} lacks ${String(wanted)}: ${JSON.stringify(outcome[stream].slice(0, 600))}`);
      }
    }
    this.record(name, differences);
    return outcome;
  }

  record(name: string, differences: readonly string[]): void {
    this.exchanges.push({ name, differences });
  }

  /** The object as JSON; undefined when there is none. */
  async object(args: readonly string[]): Promise<Record<string, unknown> | undefined> {
    const outcome = await this.run(["get", ...args, "-o", "json"]);
    return outcome.exitCode === 0 ? (JSON.parse(outcome.stdout) as Record<string, unknown>) : undefined;
  }

  /** The value at a JSON path of the object must be this text. */
  async checkField(name: string, args: readonly string[], path: string, wanted: string): Promise<void> {
    const outcome = await this.run(["get", ...args, "-o", `jsonpath={${path}}`]);
    this.record(name, outcome.stdout === wanted ? [] : [`${path} is ${JSON.stringify(outcome.stdout)}, not ${JSON.stringify(wanted)} ${outcome.stderr.trim()}`]);
  }

  /** Polls until kubectl succeeds and its output has the text. */
  async until(args: readonly string[], text: string, timeoutMs = 15_000): Promise<boolean> {
    const end = Date.now() + timeoutMs;
    while (Date.now() < end) {
      const outcome = await this.run(args);
      if (outcome.stdout.includes(text) || outcome.stderr.includes(text)) return true;
    }
    return false;
  }
}

async function main(): Promise<void> {
  const { builtInKinds } = await import("./contract-built-in.ts");
  const { customKinds } = await import("./contract-custom.ts");
  const { protocol } = await import("./contract-protocol.ts");
  const at = process.argv.indexOf("--kubectl");
  const session = new Session(at > 0 ? (process.argv[at + 1] ?? "kubectl") : "kubectl", process.env);
  try {
    await builtInKinds(session);
    await protocol(session);
    await customKinds(session);
  } finally {
    await session.run(["delete", "namespace", session.namespace, "--ignore-not-found", "--wait=false"]);
    await session.run(["delete", "crd", `widgets.contract-${session.suffix}.example.com`, "--ignore-not-found", "--wait=false"]);
  }
  const differing = session.exchanges.filter((exchange) => exchange.differences.length > 0);
  for (const { name, differences } of differing) console.log(`DIFFERS ${name}\n${differences.map((text) => `    ${text}`).join("\n")}`);
  console.log(`${session.exchanges.length} exchanges, ${differing.length} differ`);
  process.exitCode = differing.length === 0 ? 0 : 1;
}

if (import.meta.main) await main();
