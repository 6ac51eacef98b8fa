/** Why, printed: the answers for people, one block a pair or a summary of many pairs, and for programs. */
import { familyOf } from "../net/addr.ts";
import type { Cluster } from "../semantics/cluster.ts";
import { type Answer, describeVerdict, familiesDiffer, type Party } from "../verify/explain.ts";
import { formatTraffic } from "../verify/traffic.ts";

export interface Pair {
  readonly source: Party;
  readonly destination: Party;
  readonly answers: readonly Answer[];
}

const NO_FAMILY = "denied: they have no address family in common";

export function printText(pairs: readonly Pair[], isOne: boolean, cluster: Cluster): string {
  const lines = isOne ? pairs.flatMap((pair) => printPair(pair, cluster)) : printSummary(pairs, cluster);
  return lines.map((line) => `${line}\n`).join("");
}

function printPair({ source, destination, answers }: Pair, cluster: Cluster): string[] {
  if (answers.length === 0) return [`${source.label} → ${destination.label}: ${NO_FAMILY}`];
  const lines = [`${source.label} → ${destination.label}: ${outcome(answers)}`];
  for (const [fate, alike] of Map.groupBy(answers, (answer) => fateOf(answer, [`leaving ${source.label}`, `entering ${destination.label}`], cluster))) {
    lines.push(...alike.map((answer) => `  ${answer.source} → ${answer.destination}`), ...fate.split("\n").map((text) => `    ${text}`));
  }
  if (familiesDiffer(answers)) lines.push("  IPv4 and IPv6 differ");
  return lines;
}

function outcome(answers: readonly Answer[]): string {
  if (answers.every(({ allowed }) => allowed)) return "allowed";
  return answers.some(({ allowed }) => allowed) ? "partly denied" : "denied";
}

/** Pairs with the same fate for the same reasons together, denied ones first. */
function printSummary(pairs: readonly Pair[], cluster: Cluster): string[] {
  const members = new Map<string, Map<string, Set<number>>>();
  for (const { source, destination, answers } of pairs) {
    const fates = answers.length === 0 ? [{ fate: NO_FAMILY, family: 0 }] : answers.map((answer) => ({ fate: fateOf(answer, ["leaving the source", "entering the destination"], cluster), family: familyOf(answer.source) }));
    for (const { fate, family } of fates) {
      const group = members.get(fate) ?? new Map<string, Set<number>>();
      members.set(fate, group);
      const name = `${source.label} → ${destination.label}`;
      group.set(name, (group.get(name) ?? new Set()).add(family));
    }
  }
  const isDenied = (fate: string): number => Number(/: denied$/m.test(fate.split("\n")[0] ?? ""));
  const sorted = [...members].sort(([a], [b]) => isDenied(b) - isDenied(a));
  return sorted.flatMap(([fate, group]) => {
    const names = [...group].map(([name, families]) => `    ${name}${families.size === 1 && families.has(4) ? " (IPv4)" : families.size === 1 && families.has(6) ? " (IPv6)" : ""}`);
    return [`${group.size} of ${pairs.length} pairs`, ...fate.split("\n").map((text) => `  ${text}`), ...names];
  });
}

/** What becomes of the traffic, and why, on three lines. */
function fateOf(answer: Answer, [leaving, entering]: readonly [string, string], cluster: Cluster): string {
  const head = `${formatTraffic(answer.traffic)}: ${answer.allowed ? "allowed" : "denied"}`;
  return [head, `  ${leaving}: ${describeVerdict(answer.egress, cluster)}`, `  ${entering}: ${describeVerdict(answer.ingress, cluster)}`].join("\n");
}

/** `{"allowed", "pairs": [{"source", "destination", "answers": [{"source", "destination", "traffic", "allowed", "egress", "ingress"}]}]}` */
export function printJson(pairs: readonly Pair[], allowed: boolean, cluster: Cluster): string {
  const shown = pairs.map(({ source, destination, answers }) => ({
    source: source.label,
    destination: destination.label,
    answers: answers.map((answer) => ({
      source: answer.source,
      destination: answer.destination,
      traffic: formatTraffic(answer.traffic),
      allowed: answer.allowed,
      egress: { ...answer.egress, text: describeVerdict(answer.egress, cluster) },
      ingress: { ...answer.ingress, text: describeVerdict(answer.ingress, cluster) },
    })),
  }));
  return `${JSON.stringify({ allowed, pairs: shown }, undefined, 2)}\n`;
}
