/**
 * lower: the program as rows of our nf_tables table, and the members of its sets as elements. Pure but for its own index of what it
 * lowered before, so that the work is proportional to the change: a member is one element, a policy two chains, an endpoint two chains
 * and a few rows of dispatch.
 */
import type { Expr, NftElement, NftRule } from "../../kernel/nftables/objects.ts";
import { invariant } from "../../lib/bug.ts";
import { formatName } from "../../model/key.ts";
import type { Direction } from "../../model/policy.ts";
import { familyOf } from "../../net/addr.ts";
import type { Policy, PolicyId, Rule, SetId, SetMembers, Stage } from "../../program/policy.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { baseRows, sourcesOf, VERDICT_MAP, verdict } from "./base.ts";
import { hexAddr, hexInterface } from "./bytes.ts";
import { lowerMatch, type PortSet } from "./match.ts";
import { endpointChain, FROM_ENDPOINT, policyChain, sourcesSet, tierChain, TO_ENDPOINT, TO_WORKLOAD } from "./names.ts";
import { chainId, elementId, type NftRow, setId } from "./rows.ts";
import { kernelSetsOf, memberElement } from "./sets.ts";
import { BASE_UNIT, type Unit } from "./units.ts";

const DIRECTIONS: readonly Direction[] = ["ingress", "egress"];

/** What became of the elements of one kernel set: all are new, or these came and went. */
export type ElementChange =
  | { readonly type: "all" }
  | { readonly type: "some"; readonly added: readonly NftElement[]; readonly removed: readonly NftElement[] };

/** What a change of the program is in the table. */
export interface NftChange {
  /** undefined: no longer wanted. Elements of dispatch and of lists of ports are rows; members of the program's sets are not. */
  readonly rows: ReadonlyMap<string, OwnedRow | undefined>;
  /** By kernel set, those of the program's sets that exist. */
  readonly elements: ReadonlyMap<string, ElementChange>;
}

export interface OwnedRow {
  readonly row: NftRow;
  readonly unit: Unit;
}

export class NftablesLowering {
  /** Row ids that each unit lowered to, so that they can be taken back. */
  readonly #rowsOf = new Map<string, ReadonlySet<string>>();
  readonly #portSetUsers = new Map<string, number>();
  readonly #portSetsOf = new Map<PolicyId, ReadonlySet<string>>();
  #rows = new Map<string, OwnedRow | undefined>();

  /** The rows that exist whatever the program says. */
  base(): NftChange {
    return {
      rows: new Map([...baseRows()].map(([id, row]) => [id, { row, unit: BASE_UNIT }])),
      elements: new Map(),
    };
  }

  /** `program` is the state after `delta`. Work is proportional to the delta. */
  lower(program: Program, delta: ProgramDelta): NftChange {
    this.#rows = new Map();
    const elements = new Map<string, ElementChange>();
    for (const [id, members] of delta.sets) this.#lowerSet(id, members, delta, elements);
    for (const [id, policy] of delta.policies) this.#lowerPolicy(id, policy, program);
    for (const [id, endpoint] of delta.endpoints) {
      const unit: Unit = { kind: "endpoint", id: `endpoint ${id}`, object: endpoint?.source };
      this.#replace(unit, endpoint === undefined ? new Map() : lowerEndpoint(id, endpoint));
    }
    return { rows: this.#rows, elements };
  }

  #lowerSet(
    id: SetId,
    members: SetMembers | undefined,
    { members: changes }: ProgramDelta,
    elements: Map<string, ElementChange>,
  ): void {
    const unit: Unit = { kind: "set", id: `set ${id}`, object: undefined };
    const sets = members === undefined ? [] : kernelSetsOf(id, members);
    const change = changes.get(id);
    if (members === undefined || members.type === "ranges" || change === undefined) {
      this.#replace(
        unit,
        new Map(sets.map(({ name, is }): [string, NftRow] => [setId(name), { type: "set", set: name, is }])),
      );
      for (const { name } of sets) elements.set(name, { type: "all" });
      return;
    }
    const bySet = new Map<string, { added: NftElement[]; removed: NftElement[] }>();
    for (const which of ["added", "removed"] as const) {
      for (const member of change[which]) {
        const { set, element } = memberElement(id, members.type, member);
        const entry = bySet.get(set) ?? { added: [], removed: [] };
        entry[which].push(element);
        bySet.set(set, entry);
      }
    }
    for (const [set, entry] of bySet) elements.set(set, { type: "some", ...entry });
  }

  #lowerPolicy(id: PolicyId, policy: Policy | undefined, program: Program): void {
    const { rows, portSets } =
      policy === undefined
        ? { rows: new Map<string, NftRow>(), portSets: new Map<string, PortSet>() }
        : lowerPolicy(id, policy, program);
    for (const [name, set] of portSets) this.#usePortSet(name, set);
    this.#replace({ kind: "policy", id: `policy ${id}`, object: policy?.source }, rows);
    for (const name of this.#portSetsOf.get(id) ?? []) this.#dropPortSet(name);
    if (policy === undefined) this.#portSetsOf.delete(id);
    else this.#portSetsOf.set(id, new Set(portSets.keys()));
  }

  #usePortSet(name: string, set: PortSet): void {
    const users = this.#portSetUsers.get(name) ?? 0;
    this.#portSetUsers.set(name, users + 1);
    if (users > 0) return;
    const rows = new Map<string, NftRow>([[setId(name), { type: "set", set: name, is: set.is }]]);
    for (const element of set.elements)
      rows.set(elementId(name, element), { type: "element", set: name, is: set.is, element });
    this.#replace(portSetUnit(name), rows);
  }

  #dropPortSet(name: string): void {
    const users = this.#portSetUsers.get(name);
    invariant(users !== undefined, `port set ${name} is dropped more often than used`);
    if (users > 1) {
      this.#portSetUsers.set(name, users - 1);
      return;
    }
    this.#portSetUsers.delete(name);
    this.#replace(portSetUnit(name), new Map());
  }

  #replace(unit: Unit, rows: ReadonlyMap<string, NftRow>): void {
    for (const id of this.#rowsOf.get(unit.id) ?? []) if (!rows.has(id)) this.#rows.set(id, undefined);
    for (const [id, row] of rows) this.#rows.set(id, { row, unit });
    if (rows.size === 0) this.#rowsOf.delete(unit.id);
    else this.#rowsOf.set(unit.id, new Set(rows.keys()));
  }
}

function portSetUnit(name: string): Unit {
  return { kind: "set", id: `ports ${name}`, object: undefined };
}

function lowerPolicy(
  id: PolicyId,
  policy: Policy,
  program: Program,
): { rows: Map<string, NftRow>; portSets: Map<string, PortSet> } {
  const rows = new Map<string, NftRow>();
  const portSets = new Map<string, PortSet>();
  for (const direction of DIRECTIONS) {
    const written = policy[direction];
    if (written === undefined) continue;
    const rules: NftRule[] = [];
    for (const rule of written) {
      for (const alternative of lowerMatch(rule, (set) => program.sets.get(set) ?? missing(set))) {
        for (const [name, set] of alternative.portSets) portSets.set(name, set);
        rules.push({
          expressions: [...alternative.expressions, { op: "counter" }, ...verdictOf(rule)],
          comment: comment(`${rule.action} ${formatName(rule.id.source)} ${direction} rule ${rule.id.index + 1}`),
        });
      }
    }
    const chain = policyChain(id, direction);
    rows.set(chainId(chain), { type: "chain", chain, base: undefined, rules });
  }
  return { rows, portSets };
}

function missing(set: SetId): never {
  invariant(false, `the program names set ${set} but has it not`);
}

function verdictOf(rule: Rule): Expr[] {
  return rule.action === "deny" ? verdict({ type: "drop" }) : allow(rule.id.direction);
}

/** Allowed by egress means: now ask the destination. Allowed by ingress, the last stage, means: accept. */
function allow(direction: Direction): Expr[] {
  return verdict(direction === "egress" ? { type: "goto", chain: TO_WORKLOAD } : { type: "accept" });
}

/** At most 128 bytes of UTF-8, the limit of nftables' comments; names are ASCII. */
function comment(text: string): string {
  return text.length <= 127 ? text : `${text.slice(0, 60)}…${text.slice(-60)}`;
}

function lowerEndpoint(id: EndpointId, endpoint: Endpoint): Map<string, NftRow> {
  const rows = new Map<string, NftRow>();
  for (const direction of DIRECTIONS) {
    for (const [name, rules] of lowerStage(id, direction, endpoint[direction])) {
      rows.set(chainId(name), { type: "chain", chain: name, base: undefined, rules });
    }
    const map = direction === "egress" ? FROM_ENDPOINT : TO_ENDPOINT;
    const element: NftElement = {
      key: hexInterface(id),
      keyEnd: undefined,
      verdict: { type: "goto", chain: endpointChain(id, direction) },
    };
    rows.set(elementId(map, element), { type: "element", set: map, is: VERDICT_MAP, element });
  }
  for (const addr of endpoint.addresses) {
    const family = familyOf(addr);
    const element: NftElement = { key: hexInterface(id) + hexAddr(addr), keyEnd: undefined, verdict: undefined };
    rows.set(elementId(sourcesSet(family), element), {
      type: "element",
      set: sourcesSet(family),
      is: sourcesOf(family),
      element,
    });
  }
  return rows;
}

/** One chain for each tier; the first is the endpoint's own. */
function lowerStage(id: EndpointId, direction: Direction, stage: Stage): Map<string, NftRule[]> {
  const chains = new Map<string, NftRule[]>();
  const end = (): NftRule =>
    stage.otherwise === "allow"
      ? { expressions: [{ op: "counter" }, ...allow(direction)], comment: `${direction} not isolated` }
      : { expressions: [{ op: "counter" }, ...verdict({ type: "drop" })], comment: `${direction} end` };
  if (stage.tiers.length === 0) chains.set(endpointChain(id, direction), [end()]);
  stage.tiers.forEach((tier, i) => {
    const rules: NftRule[] = tier.policies.map((policy) => ({
      expressions: verdict({ type: "jump", chain: policyChain(policy, direction) }),
      comment: undefined,
    }));
    if (tier.otherwise === "deny")
      rules.push({
        expressions: [{ op: "counter" }, ...verdict({ type: "drop" })],
        comment: comment(`${direction} no rule of tier ${tier.tier} matched`),
      });
    else if (i + 1 < stage.tiers.length)
      rules.push({
        expressions: verdict({ type: "goto", chain: tierChain(id, direction, i + 1) }),
        comment: undefined,
      });
    else rules.push(end());
    chains.set(tierChain(id, direction, i), rules);
  });
  return chains;
}
