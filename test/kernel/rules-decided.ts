/**
 * Rules decided: how many packets each numbered rule of docs/semantics.md has allowed and denied. Of policy the definition says which rules it
 * applied (`semantics/applied.ts`), of what surrounds it the path's steps do. What is decided one way only is not tested.
 */
import type { Hook } from "../../src/model/policy.ts";
import { prefixContains } from "../../src/net/prefix.ts";
import { evaluatePacket, type Fate, type PathPacket } from "../../src/program/path-evaluate.ts";
import { isWorkloadInterface } from "../../src/program/path.ts";
import type { Program } from "../../src/program/program.ts";
import type { RuleNumber } from "../../src/semantics/applied.ts";

type Way = "allow" | "deny";

/** Rules that no packet of the law can decide both ways, and why. */
const EXEMPT: Readonly<Partial<Record<RuleNumber, string>>> = {
  "POL-7": "it only allows",
  "POL-20": "no such packet leaves the pod",
  "POL-22": "about translation: translation.test.ts and host-endpoint.test.ts",
  "POL-24": "about changes: flows.test.ts and the property of the graph",
  "POL-47": "about proxies",
  "POL-52": "about flows that exist: flows.test.ts, flow-table.test.ts",
  "POL-57": "about sources: of POL-33, and machines.test.ts",
  "POL-53": "staged policies decide nothing",
  "POL-56": "nor does what is counted for them, which the law compares apart",
};

/** Steps of the path that end it by a rule. */
const STEPS: Readonly<Record<string, RuleNumber>> = {
  "loopback destination": "POL-25",
  "unknown interface or spoofed source": "POL-33",
  "unknown interface": "POL-33",
  "neighbor discovery": "POL-34",
  "link-local source": "POL-34",
  "invalid connection state": "POL-35",
  failsafe: "POL-36",
};

export class RulesDecided {
  readonly #counts = new Map<RuleNumber, Record<Way, number>>();

  add(rules: Iterable<RuleNumber>, way: Way): void {
    for (const rule of rules) {
      const counts = this.#counts.get(rule) ?? { allow: 0, deny: 0 };
      counts[way]++;
      this.#counts.set(rule, counts);
    }
  }

  /** What the path around policy decided. */
  addPath(program: Program, packet: PathPacket, fate: Fate): void {
    const way: Way = fate.action === "accept" ? "allow" : "deny";
    const isAtWorkload = [packet.from, packet.to].some(
      (name) => name !== undefined && isWorkloadInterface(name, program.settings),
    );
    const ended = fate.step === undefined ? undefined : STEPS[fate.step];
    if (ended !== undefined) this.add([ended], way);
    // What these checks let through.
    if (way === "allow" && isAtWorkload && ended === undefined) this.add(["POL-25", "POL-33", "POL-35"], way);
    const [first, ...others] = fate.verdicts;
    if (others.length > 0) this.add(["POL-32"], way);
    const workloads = fate.verdicts.filter(({ endpoint }) => program.endpoints.get(endpoint)?.kind === "workload");
    if (workloads.length === 2) this.add(["POL-9"], way);
    if (first?.direction === "egress" && packet.to === undefined) this.add(["POL-10"], first.verdict.action);
    if (first?.verdict.action === "deny") this.add(["POL-23"], "deny");
    if (fate.step === "established" && evaluatePacket(program, { ...packet, connection: "new" }).action === "drop")
      this.add(["POL-23"], "allow");
    const last = fate.verdicts.at(-1);
    if (last?.hook === FORWARD && last.verdict.action === "deny" && isFailsafePort(program, packet))
      this.add(["POL-36"], "deny");
  }

  /** A line for each rule of the page, and those of them that are not decided both ways. */
  table(page: string): { readonly lines: readonly string[]; readonly missing: readonly string[] } {
    const rules = [...page.matchAll(/^\*\*(POL-\d+) ([^*]+?)\.?\*\*/gm)];
    const rows = rules.map(([, number, title = ""]) => {
      const rule = number as RuleNumber;
      const { allow, deny } = this.#counts.get(rule) ?? { allow: 0, deny: 0 };
      const text = `${rule.padEnd(7)} ${title.padEnd(26)} allowed ${String(allow).padStart(6)}  denied ${String(deny).padStart(6)}`;
      const reason = EXEMPT[rule];
      const isDecided = allow > 0 && deny > 0;
      const line = reason === undefined ? text : `${text}  (${reason})`;
      // An exemption that is not needed hides nothing.
      return { line, isMissing: isDecided === (reason !== undefined) };
    });
    return {
      lines: rows.map(({ line }) => line),
      missing: rows.flatMap(({ line, isMissing }) => (isMissing ? [line] : [])),
    };
  }
}

const FORWARD: Hook = "forward";

/** Of what is forwarded. */
function isFailsafePort({ settings }: Program, { packet }: PathPacket): boolean {
  return settings.failsafes.ingress.some(
    ({ protocol, port, net }) =>
      protocol === packet.protocol &&
      port === packet.destinationPort &&
      (net === undefined || prefixContains(net, packet.source)),
  );
}
