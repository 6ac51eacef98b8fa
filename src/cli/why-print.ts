/** Why, printed: the answers for people, one block per pair or a summary of many pairs, and for programs. */
import { type Addr, familyOf } from "../net/addr.ts";
import type { Cluster } from "../semantics/cluster.ts";
import { describeStage, describeTrace, describeVerdict, familiesDiffer, ruleFacts } from "../verify/describe.ts";
import type { Answer, Party } from "../verify/explain.ts";
import type { Verdict } from "../model/verdict.ts";
import type { HostVerdict } from "../verify/hosts.ts";
import { formatTraffic } from "../verify/traffic.ts";
import { isPlaceholder } from "../verify/placeholders.ts";
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
  const members = new Map<string, Map<string, number>>();
  const textOf = memoized((answer) => fateOf(answer, ["leaving the source", "entering the destination"], cluster));
  for (const { source, destination, passage, answers } of pairs) {
    const name = `${source.label} → ${destination.label}${passage === undefined ? "" : ` (through ${passage.text})`}`;
    const add = (fate: string, family: number): void => {
      const group = members.get(fate) ?? new Map<string, number>();
      members.set(fate, group);
      group.set(name, (group.get(name) ?? 0) | family);
    };
    if (answers.length === 0) add(NO_FAMILY, 0);
    for (const answer of answers) add(textOf(answer), familyOf(answer.source) === 4 ? ONLY_4 : ONLY_6);
  }
  const isDenied = (fate: string): number => Number(/: denied$/m.test(fate.split("\n")[0] ?? ""));
  const sorted = [...members].sort(([a], [b]) => isDenied(b) - isDenied(a));
  return sorted.flatMap(([fate, group]) => {
    const names = [...group].map(
      ([name, families]) => `    ${name}${families === ONLY_4 ? " (IPv4)" : families === ONLY_6 ? " (IPv6)" : ""}`,
    );
    return [`${group.size} of ${pairs.length} pairs`, ...fate.split("\n").map((text) => `  ${text}`), ...names];
  });
}

/** Of the families of a pair that have a fate: a bit each. */
const [ONLY_4, ONLY_6] = [1, 2];

/** Many answers have one fate, and its list of traffic with it, by which it is known again. */
function memoized<T>(make: (answer: Answer) => T): (answer: Answer) => T {
  const known = new Map<Answer["traffic"], T>();
  return (answer) => {
    const found = known.get(answer.traffic) ?? make(answer);
    known.set(answer.traffic, found);
    return found;
  };
}

/** The verdict on the traffic and the reasons, a line for each end, more where rules passed it on or something unknown may change it. */
function fateOf(answer: Answer, [leaving, entering]: readonly [string, string], cluster: Cluster): string {
  const { egress, ingress, otherwise, hosts = [] } = answer;
  const head = `${formatTraffic(answer.traffic)}: ${answer.allowed ? "allowed" : otherwise === undefined ? "denied" : "not known"}`;
  const lineOf = (end: string, verdict: HostVerdict, others: readonly (HostVerdict | undefined)[]): string[] => [
    `  ${end}: ${describeVerdict(verdict, cluster)}`,
    ...describeTrace(verdict, cluster).map((step) => `    before that, ${step}`),
    ...others
      .filter((other) => other !== undefined)
      .filter(({ action }) => action !== verdict.action)
      .slice(0, 1)
      .map((other) => `    or, by what is not known: ${describeVerdict(other, cluster)}`),
  ];
  const stagesOf = (direction: string): string[] =>
    hosts
      .filter((stage) => stage.direction === direction)
      .flatMap((stage) =>
        stage.verdicts.slice(0, 1).flatMap((first) => lineOf(describeStage(stage), first, stage.verdicts)),
      );
  const endOf = (end: string, verdict: Verdict, other: Verdict | undefined, stages: readonly string[]): string[] =>
    verdict.reason.type === "not-a-pod" && stages.length > 0 ? [] : lineOf(end, verdict, [other]);
  const [leave, arrive] = [stagesOf("egress"), stagesOf("ingress")];
  return [
    head,
    ...endOf(leaving, egress, otherwise?.egress, leave),
    ...leave,
    ...arrive,
    ...endOf(entering, ingress, otherwise?.ingress, arrive),
  ].join("\n");
}

/**
 * `{"allowed", "certain", "warnings", "pairs": [{"source", "destination", "through", "answers": [{"source", "destination", "traffic",
 * "allowed", "certain", "egress", "ingress", "hosts"}]}]}`; an address that is not known is null. Warnings begin with what makes it uncertain.
 */
export function printJson({ pairs, allowed, doubts, notes, cluster }: WhyReport): string {
  const verdictOf = (verdict: HostVerdict): object => ({
    ...verdict,
    ...ruleFacts(verdict, cluster),
    text: describeVerdict(verdict, cluster),
  });
  const fateOfAnswer = memoized(({ traffic, allowed: isAllowed, otherwise, egress, ingress, hosts }) => ({
    traffic: formatTraffic(traffic),
    allowed: isAllowed,
    certain: otherwise === undefined && doubts.length === 0,
    egress: verdictOf(egress),
    ingress: verdictOf(ingress),
    ...(hosts === undefined
      ? {}
      : { hosts: hosts.map((stage) => ({ ...stage, verdicts: stage.verdicts.map(verdictOf) })) }),
  }));
  const shown = pairs.map(({ source, destination, passage, answers }) => ({
    source: source.label,
    destination: destination.label,
    ...(passage === undefined ? {} : { through: passage.text }),
    answers: answers.map((answer) => ({
      source: isPlaceholder(answer.source) ? null : answer.source,
      destination: isPlaceholder(answer.destination) ? null : answer.destination,
      ...fateOfAnswer(answer),
    })),
  }));
  return `${JSON.stringify({ allowed, certain: doubts.length === 0, warnings: [...doubts, ...notes], pairs: shown }, undefined, 2)}\n`;
}
