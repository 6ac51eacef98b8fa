/**
 * Evaluate: what a program does with a packet at one direction of one endpoint, and which rule decided.
 *
 * The second statement of the meaning of policy (the first is over resources); every backend compiles a program to do exactly this.
 */
import { assertNever, invariant } from "../lib/bug.ts";
import type { Key } from "../model/key.ts";
import type { Direction } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import { addrToInteger, type Addr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { type Atom, type Clause, formatAddrPort, type Rule, type SetMembers, type Side } from "./policy.ts";
import type { EndpointId, Program } from "./program.ts";

/** The endpoint must be in the program: one that is not has no rules, and its interface is closed. */
export function evaluate(program: Program, endpoint: EndpointId, direction: Direction, packet: FlowPacket): Verdict {
  const stage = program.endpoints.get(endpoint)?.[direction];
  invariant(stage !== undefined, `no endpoint ${endpoint}`);
  const passed: Key[] = [];
  for (const tier of stage.tiers) {
    for (const id of tier.policies) {
      const policy = program.policies.get(id);
      invariant(policy !== undefined, `no policy ${id}`);
      const rule = policy[direction]?.find((candidate) => matches(program, candidate, packet));
      if (rule !== undefined)
        return {
          action: rule.action,
          reason: { type: "rule", policy: rule.id.source, direction, index: rule.id.index },
        };
      passed.push(policy.source);
    }
    if (tier.otherwise === "deny")
      return { action: "deny", reason: { type: "no-rule-matched", policies: passed, direction } };
  }
  if (passed.length === 0) return { action: stage.otherwise, reason: { type: "not-isolated", direction } };
  return { action: stage.otherwise, reason: { type: "no-rule-matched", policies: passed, direction } };
}

function matches(program: Program, rule: Rule, packet: FlowPacket): boolean {
  return rule.when.every((clause) => clauseHolds(program, clause, packet));
}

function clauseHolds(program: Program, clause: Clause, packet: FlowPacket): boolean {
  return clause.any.some((atom) => atomHolds(program, atom, packet)) !== clause.not;
}

function atomHolds(program: Program, atom: Atom, packet: FlowPacket): boolean {
  switch (atom.on) {
    case "protocol":
      return packet.protocol === atom.is;
    case "ports": {
      const port = portOf(packet, atom.side);
      return packet.protocol === atom.protocol && port !== undefined && port >= atom.from && port <= atom.to;
    }
    case "set": {
      const members = program.sets.get(atom.set);
      invariant(members !== undefined, `no set ${atom.set}`);
      return contains(members, atom.side, packet);
    }
    default:
      return assertNever(atom);
  }
}

function contains(set: SetMembers, side: Side, packet: FlowPacket): boolean {
  const addr = side === "source" ? packet.source : packet.destination;
  switch (set.type) {
    case "address":
      return set.members.has(addr);
    case "ranges":
      return set.ranges.some(({ first, last }) => isWithin(addr, first, last));
    case "address-port": {
      const port = portOf(packet, side);
      return port !== undefined && set.members.has(formatAddrPort(addr, packet.protocol, port));
    }
    default:
      return assertNever(set);
  }
}

function isWithin(addr: Addr, first: Addr, last: Addr): boolean {
  if (addr.includes(":") !== first.includes(":")) return false;
  const value = addrToInteger(addr);
  return value >= addrToInteger(first) && value <= addrToInteger(last);
}

function portOf(packet: FlowPacket, side: Side): number | undefined {
  return side === "source" ? packet.sourcePort : packet.destinationPort;
}
