/** Why, printed: the answers for people, one block per pair or a summary of many pairs, and for programs. */
import { type Addr, familyOf } from "../net/addr.ts";
import type { Cluster } from "../semantics/cluster.ts";
import { type Answer, describeVerdict, familiesDiffer, type Party } from "../verify/explain.ts";
import { formatTraffic } from "../verify/traffic.ts";
import { isPlaceholder } from "../verify/unknowns.ts";
import type { Passage } from "./parties.ts";

export interface Pair {
  readonly source: Party;
  readonly destination: Party;
  readonly passage: Passage | undefined;
  readonly answers: readonly Answer[];
}

export interface WhyReport {
  readonly pairs: readonly Pair[];
  readonly allowed: boolean;
  /** Why the answer is not certain; empty when it is. */
  readonly doubts: readonly string[];
  /** What else the operator must know. */
  readonly notes: readonly string[];
  readonly cluster: Cluster;
}

const NO_FAMILY = "denied: they have no address family in common";

export function printText({ pairs, doubts, cluster }: WhyReport, isOne: boolean): string {
  const lines = isOne
    ? pairs.flatMap((pair) => printPair(pair, cluster, doubts.length > 0))
    : printSummary(pairs, cluster);
  return [...lines, ...doubts.map((doubt) => `not certain: ${doubt}`)].map((line) => `${line}\n`).join("");
}

function printPair({ source, destination, passage, answers }: Pair, cluster: Cluster, isInDoubt: boolean): string[] {
  const head = `${source.label} → ${destination.label}${passage === undefined ? "" : ` (through ${passage.text})`}`;
  if (answers.length === 0) return [`${head}: ${NO_FAMILY}`];
  const isOpen = answers.some(({ otherwise }) => otherwise !== undefined);
  const lines = [`${head}: ${isOpen ? "not known" : `${outcome(answers)}${isInDoubt ? ", but not certainly" : ""}`}`];
  for (const [fate, alike] of Map.groupBy(answers, (answer) =>
    fateOf(answer, [`leaving ${source.label}`, `entering ${destination.label}`], cluster),
  )) {
    lines.push(
      ...alike.map((answer) => `  ${addressText(answer.source)} → ${addressText(answer.destination)}`),
      ...fate.split("\n").map((text) => `    ${text}`),
    );
  }
  if (familiesDiffer(answers)) lines.push("  IPv4 and IPv6 differ");
  return lines;
}

function addressText(addr: Addr): string {
  return isPlaceholder(addr) ? `(IPv${familyOf(addr)}, not known yet)` : addr;
}

function outcome(answers: readonly Answer[]): string {
  if (answers.every(({ allowed }) => allowed)) return "allowed";
  return answers.some(({ allowed }) => allowed) ? "partly denied" : "denied";
}

/** Pairs with the same fate for the same reasons together, denied ones first. */
function printSummary(pairs: readonly Pair[], cluster: Cluster): string[] {
  const members = new Map<string, Map<string, Set<number>>>();
  for (const { source, destination, passage, answers } of pairs) {
    const fates =
      answers.length === 0
        ? [{ fate: NO_FAMILY, family: 0 }]
        : answers.map((answer) => ({
            fate: fateOf(answer, ["leaving the source", "entering the destination"], cluster),
            family: familyOf(answer.source),
          }));
    for (const { fate, family } of fates) {
      const group = members.get(fate) ?? new Map<string, Set<number>>();
      members.set(fate, group);
      const name = `${source.label} → ${destination.label}${passage === undefined ? "" : ` (through ${passage.text})`}`;
      group.set(name, (group.get(name) ?? new Set()).add(family));
    }
  }
  const isDenied = (fate: string): number => Number(/: denied$/m.test(fate.split("\n")[0] ?? ""));
  const sorted = [...members].sort(([a], [b]) => isDenied(b) - isDenied(a));
  return sorted.flatMap(([fate, group]) => {
    const names = [...group].map(
      ([name, families]) =>
        `    ${name}${families.size === 1 && families.has(4) ? " (IPv4)" : families.size === 1 && families.has(6) ? " (IPv6)" : ""}`,
    );
    return [`${group.size} of ${pairs.length} pairs`, ...fate.split("\n").map((text) => `  ${text}`), ...names];
  });
}

/** The verdict on the traffic and the reasons, on three lines; one more for each end where something unknown may change it. */
function fateOf(answer: Answer, [leaving, entering]: readonly [string, string], cluster: Cluster): string {
  const { egress, ingress, otherwise } = answer;
  const head = `${formatTraffic(answer.traffic)}: ${answer.allowed ? "allowed" : otherwise === undefined ? "denied" : "not known"}`;
  const lineOf = (end: string, verdict: Answer["egress"], other: Answer["egress"] | undefined): string[] => {
    const line = `  ${end}: ${describeVerdict(verdict, cluster)}`;
    return other === undefined || other.action === verdict.action
      ? [line]
      : [line, `    or, by what is not known: ${describeVerdict(other, cluster)}`];
  };
  return [head, ...lineOf(leaving, egress, otherwise?.egress), ...lineOf(entering, ingress, otherwise?.ingress)].join(
    "\n",
  );
}

/**
 * `{"allowed", "certain", "warnings", "pairs": [{"source", "destination", "through", "answers": [{"source", "destination", "traffic",
 * "allowed", "certain", "egress", "ingress"}]}]}`; an address that is not known is null. Warnings begin with what makes it uncertain.
 */
export function printJson({ pairs, allowed, doubts, notes, cluster }: WhyReport): string {
  const shown = pairs.map(({ source, destination, passage, answers }) => ({
    source: source.label,
    destination: destination.label,
    ...(passage === undefined ? {} : { through: passage.text }),
    answers: answers.map((answer) => ({
      source: isPlaceholder(answer.source) ? null : answer.source,
      destination: isPlaceholder(answer.destination) ? null : answer.destination,
      traffic: formatTraffic(answer.traffic),
      allowed: answer.allowed,
      certain: answer.otherwise === undefined && doubts.length === 0,
      egress: { ...answer.egress, text: describeVerdict(answer.egress, cluster) },
      ingress: { ...answer.ingress, text: describeVerdict(answer.ingress, cluster) },
    })),
  }));
  return `${JSON.stringify({ allowed, certain: doubts.length === 0, warnings: [...doubts, ...notes], pairs: shown }, undefined, 2)}\n`;
}
