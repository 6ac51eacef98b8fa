/**
 * lower: the program as rows of our nf_tables table. Pure but for its own index of what it lowered before, so that the work is
 * proportional to the change: a set member is one row, a policy two chains, an endpoint two chains and a few elements.
 */
import type { Expr, NftElement, NftRule, NftSet } from "../../kernel/nftables/objects.ts";
import { invariant } from "../../lib/bug.ts";
import { formatName } from "../../model/key.ts";
import type { Direction } from "../../model/policy.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../../net/addr.ts";
import type { Policy, PolicyId, Rule, SetId, SetMembers, Stage } from "../../program/policy.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import { baseRows, sourcesOf, VERDICT_MAP, verdict } from "./base.ts";
import { hex16, hex8, hexAddr, hexInterface, padField } from "./bytes.ts";
import { lowerMatch, type PortSet } from "./match.ts";
import {
  endpointChain,
  FROM_ENDPOINT,
  policyChain,
  setName,
  sourcesSet,
  tierChain,
  TO_ENDPOINT,
  TO_WORKLOAD,
} from "./names.ts";
import { chainId, elementId, type NftRow, setId } from "./rows.ts";

type SetRow = (id: string, row: NftRow | undefined) => void;
const DIRECTIONS: readonly Direction[] = ["ingress", "egress"];

export class NftablesLowering {
  readonly #set: SetRow;
  /** Row ids that each object of the program lowered to, so that they can be taken back. */
  readonly #rowsOf = new Map<string, ReadonlySet<string>>();
  readonly #portSetUsers = new Map<string, { users: number; readonly rows: ReadonlySet<string> }>();
  readonly #portSetsOf = new Map<PolicyId, ReadonlySet<string>>();

  /** `set` receives each wanted row, or undefined for one that is no longer wanted. */
  constructor(set: SetRow) {
    this.#set = set;
    for (const [id, row] of baseRows()) set(id, row);
  }

  step(program: Program, delta: ProgramDelta): void {
    for (const [id, members] of delta.sets) this.#stepSet(id, members, delta);
    for (const [id, policy] of delta.policies) this.#stepPolicy(id, policy, program);
    for (const [id, endpoint] of delta.endpoints)
      this.#replace(`endpoint ${id}`, endpoint === undefined ? new Map() : lowerEndpoint(id, endpoint));
  }

  #stepSet(id: SetId, members: SetMembers | undefined, delta: ProgramDelta): void {
    const change = delta.members.get(id);
    if (members === undefined || members.type === "ranges" || change === undefined) {
      this.#replace(`set ${id}`, members === undefined ? new Map() : lowerSet(id, members));
      return;
    }
    const known = new Set(this.#rowsOf.get(`set ${id}`));
    for (const member of change.removed) {
      const [rowId] = memberRow(id, members.type, member);
      known.delete(rowId);
      this.#set(rowId, undefined);
    }
    for (const member of change.added) {
      const [rowId, row] = memberRow(id, members.type, member);
      known.add(rowId);
      this.#set(rowId, row);
    }
    this.#rowsOf.set(`set ${id}`, known);
  }

  #stepPolicy(id: PolicyId, policy: Policy | undefined, program: Program): void {
    const { rows, portSets } =
      policy === undefined
        ? { rows: new Map<string, NftRow>(), portSets: new Map<string, PortSet>() }
        : lowerPolicy(id, policy, program);
    for (const [name, set] of portSets) this.#usePortSet(name, set);
    this.#replace(`policy ${id}`, rows);
    for (const name of this.#portSetsOf.get(id) ?? []) this.#dropPortSet(name);
    if (policy === undefined) this.#portSetsOf.delete(id);
    else this.#portSetsOf.set(id, new Set(portSets.keys()));
  }

  #usePortSet(name: string, set: PortSet): void {
    const entry = this.#portSetUsers.get(name);
    if (entry !== undefined) {
      entry.users++;
      return;
    }
    const rows = new Map<string, NftRow>([[setId(name), { type: "set", set: name, is: set.is }]]);
    for (const element of set.elements)
      rows.set(elementId(name, element), { type: "element", set: name, is: set.is, element });
    for (const [id, row] of rows) this.#set(id, row);
    this.#portSetUsers.set(name, { users: 1, rows: new Set(rows.keys()) });
  }

  #dropPortSet(name: string): void {
    const entry = this.#portSetUsers.get(name);
    invariant(entry !== undefined, `port set ${name} is dropped more often than used`);
    entry.users--;
    if (entry.users > 0) return;
    for (const id of entry.rows) this.#set(id, undefined);
    this.#portSetUsers.delete(name);
  }

  #replace(object: string, rows: ReadonlyMap<string, NftRow>): void {
    for (const id of this.#rowsOf.get(object) ?? []) if (!rows.has(id)) this.#set(id, undefined);
    for (const [id, row] of rows) this.#set(id, row);
    if (rows.size === 0) this.#rowsOf.delete(object);
    else this.#rowsOf.set(object, new Set(rows.keys()));
  }
}

function nftSetOf(type: SetMembers["type"], family: Family): NftSet {
  const addr = family === 4 ? "ipv4_addr" : "ipv6_addr";
  if (type === "address-port") return { key: [addr, "inet_proto", "inet_service"], interval: false, verdictMap: false };
  return { key: [addr], interval: type === "ranges", verdictMap: false };
}

function lowerSet(id: SetId, members: SetMembers): Map<string, NftRow> {
  const rows = new Map<string, NftRow>();
  for (const family of FAMILIES) {
    const set = setName(id, family);
    const is = nftSetOf(members.type, family);
    if (members.type !== "ranges") {
      rows.set(setId(set), { type: "set", set, is });
      continue;
    }
    const ranges = members.ranges.filter((range) => familyOf(range.first) === family);
    if (ranges.length === 0) continue;
    rows.set(setId(set), { type: "set", set, is });
    for (const { first, last } of ranges) {
      const element = { key: hexAddr(first), keyEnd: hexAddr(last), verdict: undefined };
      rows.set(elementId(set, element), { type: "element", set, is, element });
    }
  }
  if (members.type !== "ranges") {
    for (const member of members.members) rows.set(...memberRow(id, members.type, member));
  }
  return rows;
}

/** The element of one member: `ADDR`, or `ADDR,PROTOCOL,PORT`. */
function memberRow(id: SetId, type: "address" | "address-port", member: string): [string, NftRow] {
  const [addrText = "", protocol = "", port = ""] = member.split(",");
  const addr = addrText as Addr;
  const family = familyOf(addr);
  const set = setName(id, family);
  const key =
    type === "address"
      ? hexAddr(addr)
      : hexAddr(addr) + padField(hex8(Number(protocol))) + padField(hex16(Number(port)));
  const element: NftElement = { key, keyEnd: undefined, verdict: undefined };
  return [elementId(set, element), { type: "element", set, is: nftSetOf(type, family), element }];
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
