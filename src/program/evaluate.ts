/**
 * Evaluate: what a program does with a packet at one stage of one endpoint, and which rule decided.
 *
 * The second definition of the meaning of policy (the first is over resources); every backend compiles a program to do exactly this.
 */
import { assertNever, invariant } from "../lib/bug.ts";
import type { Key } from "../model/key.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { TraceStep, Verdict } from "../model/verdict.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { prefixContains } from "../net/prefix.ts";
import {
  type Atom,
  type Clause,
  formatAddrPort,
  type Policy,
  type PolicyId,
  type Rule,
  type SetId,
  type SetMembers,
  type Side,
  type Stage,
} from "./policy.ts";
import type { EndpointId, Program } from "./program.ts";

/** The endpoint must be in the program and have the stage. */
export function evaluate(
  program: Program,
  endpoint: EndpointId,
  direction: Direction,
  packet: FlowPacket,
  hook: Hook = "normal",
): Verdict {
  const stage = program.endpoints.get(endpoint)?.stages[hook]?.[direction];
  invariant(stage !== undefined, `no ${hook} ${direction} stage of endpoint ${endpoint}`);
  return evaluateStage(program, stage, direction, packet);
}

export function evaluateStage(program: Program, stage: Stage, direction: Direction, packet: FlowPacket): Verdict {
  const trace: TraceStep[] = [];
  const verdict = (action: Verdict["action"], reason: Verdict["reason"]): Verdict =>
    trace.length === 0 ? { action, reason } : { action, reason, trace };
  for (const tier of stage.tiers) {
    const outcome = runPolicies(program, tier.policies, direction, packet, trace);
    if (outcome.type === "decided") return verdict(outcome.rule.action, reasonOf(outcome.rule));
    if (outcome.type === "nothing" && tier.otherwise === "deny")
      return verdict("deny", { type: "no-rule-matched", tier: tier.tier, policies: outcome.asked, direction });
  }
  const outcome = runPolicies(program, stage.profiles, direction, packet, trace);
  if (outcome.type === "decided") return verdict(outcome.rule.action, reasonOf(outcome.rule));
  const isPlain = stage.tiers.length === 0 && stage.profiles.length === 0;
  return verdict(stage.otherwise, { type: isPlain && stage.otherwise === "allow" ? "not-isolated" : "end", direction });
}

type DecidingRule = Rule & { readonly action: Verdict["action"] };

type Outcome =
  | { readonly type: "decided"; readonly rule: DecidingRule }
  | { readonly type: "passed" }
  | { readonly type: "nothing"; readonly asked: readonly Key[] };

/** Runs the policies of one tier, or the profiles; rules that pass or log are added to the trace. */
function runPolicies(
  program: Program,
  ids: readonly PolicyId[],
  direction: Direction,
  packet: FlowPacket,
  trace: TraceStep[],
): Outcome {
  const asked: Key[] = [];
  for (const id of ids) {
    const policy = policyOf(program, id);
    for (const rule of policy[direction] ?? []) {
      if (!matches(program, rule, packet)) continue;
      const { action } = rule;
      if (action === "allow" || action === "deny") return { type: "decided", rule: { ...rule, action } };
      trace.push({ action, policy: rule.id.source, direction, index: rule.id.index });
      if (action === "pass") return { type: "passed" };
    }
    asked.push(policy.source);
  }
  return { type: "nothing", asked };
}

function policyOf(program: Program, id: PolicyId): Policy {
  const policy = program.policies.get(id);
  invariant(policy !== undefined, `no policy ${id}`);
  return policy;
}

function reasonOf({ id }: Rule): Verdict["reason"] {
  return { type: "rule", policy: id.source, direction: id.direction, index: id.index };
}

function matches(program: Program, rule: Rule, packet: FlowPacket): boolean {
  return rule.when.every((clause) => clauseHolds(program, clause, packet));
}

function clauseHolds(program: Program, clause: Clause, packet: FlowPacket): boolean {
  return clause.any.some((atom) => atomHolds(program, atom, packet)) !== clause.not;
}

function atomHolds(program: Program, atom: Atom, packet: FlowPacket): boolean {
  switch (atom.on) {
    case "ip-version":
      return familyOf(packet.source) === atom.is;
    case "protocol":
      return packet.protocol === atom.is;
    case "ports": {
      const port = portOf(packet, atom.side);
      return packet.protocol === atom.protocol && port !== undefined && port >= atom.from && port <= atom.to;
    }
    case "icmp":
      if (packet.protocol !== atom.protocol || packet.icmp?.type !== atom.type) return false;
      return atom.code === undefined || packet.icmp.code === atom.code;
    case "set":
      return containsAddr(setOf(program, atom.set), addrOf(packet, atom.side));
    case "named-port": {
      const set = setOf(program, atom.set);
      invariant(set.type === "address-port", `set ${atom.set} has no ports`);
      const port = portOf(packet, atom.side);
      if (packet.protocol !== atom.protocol || port === undefined) return false;
      return set.members.has(formatAddrPort(addrOf(packet, atom.side), packet.protocol, port));
    }
    default:
      return assertNever(atom);
  }
}

function setOf(program: Program, id: SetId): SetMembers {
  const set = program.sets.get(id);
  invariant(set !== undefined, `no set ${id}`);
  return set;
}

function containsAddr(set: SetMembers, addr: Addr): boolean {
  invariant(set.type !== "address-port", "a set of addresses and ports is not looked up by address");
  if (set.type === "address" && set.hosts.has(addr)) return true;
  for (const net of set.nets) if (prefixContains(net, addr)) return true;
  return false;
}

function addrOf(packet: FlowPacket, side: Side): Addr {
  return side === "source" ? packet.source : packet.destination;
}

function portOf(packet: FlowPacket, side: Side): number | undefined {
  return side === "source" ? packet.sourcePort : packet.destinationPort;
}
