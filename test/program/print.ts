/** Print: a program as text for people: one row a line, tables and rows in a fixed order, so that two programs can be compared by eye. */
import { assertNever } from "../../src/lib/bug.ts";
import { formatName } from "../../src/model/key.ts";
import { formatProtocol } from "../../src/net/protocol.ts";
import type { Atom, Clause, Policy, Rule, SetMembers, Stage } from "../../src/program/policy.ts";
import { stagedOf, stagesOf } from "../../src/program/program.ts";
import { formatRoute } from "../../src/program/route.ts";
import { membersOf, type Tables } from "./diff.ts";

export function printProgram(program: Tables): string {
  const lines = [
    ...rows(program.sets).map(([id, set]) => `set ${id} ${printSet(set)}`),
    ...rows(program.policies).flatMap(([id, policy]) => [
      `policy ${id}`,
      ...printPolicy(policy).map((line) => `  ${line}`),
    ]),
    ...rows(program.endpoints).flatMap(([id, endpoint]) => [
      `${endpoint.kind} ${id} ${formatName(endpoint.source)} ${[...endpoint.addresses, ...(endpoint.sources ?? [])].join(" ")}`.trimEnd(),
      ...stagesOf(endpoint).map(({ hook, direction, stage }) => `  ${hook} ${direction} ${printStage(stage)}`),
      ...stagedOf(endpoint).map(({ hook, direction, stage }) => `  staged ${hook} ${direction} ${printStage(stage)}`),
    ]),
    ...rows(program.routes).map(([, route]) => `route ${formatRoute(route)}`),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

function rows<K extends string, V>(table: ReadonlyMap<K, V>): [K, V][] {
  return [...table].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

function printSet(set: SetMembers): string {
  return `${set.type} {${[...membersOf(set)].sort().join(" ")}}`;
}

function printPolicy(policy: Policy): string[] {
  return [
    ...(policy.error === undefined ? [] : [`error ${policy.error}`]),
    ...printRules("ingress", policy.ingress),
    ...printRules("egress", policy.egress),
  ];
}

function printRules(direction: string, rules: readonly Rule[] | undefined): string[] {
  if (rules === undefined) return [];
  if (rules.length === 0) return [`${direction} no rules`];
  return rules.map(
    (rule) =>
      `${direction} ${rule.id.index} ${rule.action} if ${rule.when.length === 0 ? "any" : rule.when.map(printClause).join(" and ")}`,
  );
}

function printClause(clause: Clause): string {
  return `${clause.not ? "not " : ""}(${clause.any.length === 0 ? "never" : clause.any.map(printAtom).join(" or ")})`;
}

function printAtom(atom: Atom): string {
  switch (atom.on) {
    case "ip-version":
      return `IPv${atom.is}`;
    case "protocol":
      return formatProtocol(atom.is);
    case "icmp":
      return `${formatProtocol(atom.protocol)} type ${atom.type}${atom.code === undefined ? "" : ` code ${atom.code}`}`;
    case "ports":
      return `${formatProtocol(atom.protocol)} ${atom.side} port ${atom.from === atom.to ? atom.from : `${atom.from}-${atom.to}`}`;
    case "set":
      return `${atom.side} in ${atom.set}`;
    case "named-port":
      return `${formatProtocol(atom.protocol)} ${atom.side} in ${atom.set}`;
    default:
      return assertNever(atom);
  }
}

function printStage(stage: Stage): string {
  const tiers = stage.tiers.map((tier) => `tier ${tier.tier} [${tier.policies.join(", ")}] else ${tier.otherwise}`);
  const profiles = stage.profiles.length === 0 ? [] : [`profiles [${stage.profiles.join(", ")}]`];
  return [...tiers, ...profiles, stage.otherwise].join("; ");
}
