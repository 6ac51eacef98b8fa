/** bpf-format: the eBPF path's maps as text for people. */
import type { DropCounter, MapFill } from "../dataplane/counters.ts";
import type { DumpedEndpoint, DumpedPolicy, DumpedSet, DumpedStage, PathDump } from "../dataplane/ebpf/dump.ts";
import type { DumpedFlow } from "../dataplane/ebpf/dump-flows.ts";
import { assertNever } from "../lib/bug.ts";
import { formatProtocol } from "../net/protocol.ts";
import type { Atom, Clause } from "../program/policy.ts";
import { formatSocket } from "./denied.ts";
import { formatTable } from "./table.ts";

export interface PathCounters extends Pick<PathDump, "policies" | "endpoints"> {
  readonly drops: readonly DropCounter[];
  readonly maps: readonly MapFill[];
  /** Packets that went past the host stack. */
  readonly past: number;
  /** Denied and logged packets of which nobody was told: there were too many. */
  readonly missed: number;
}

export function formatFlows(flows: readonly DumpedFlow[]): string {
  const rows = flows.map(({ protocol, tuple, sent, from, to, state, isAlias, isPickedUp, isPast, idleSeconds }) => {
    const [called, calledThrough] = [
      formatSocket(tuple.destination, tuple.destinationPort),
      formatSocket(sent.destination, sent.destinationPort),
    ];
    const [source, sentFrom] = [
      formatSocket(tuple.source, tuple.sourcePort),
      formatSocket(sent.source, sent.sourcePort),
    ];
    const hasPorts = sent.sourcePort !== undefined;
    const isTranslated = hasPorts
      ? called !== calledThrough || source !== sentFrom
      : tuple.source !== sent.source || tuple.destination !== sent.destination;
    const notes = [
      ...(isTranslated ? [`sent as ${sentFrom} → ${calledThrough}`] : []),
      ...(isAlias ? ["the address that was called"] : []),
      ...(isPickedUp ? ["taken over in its middle"] : []),
      ...(isPast ? ["past the host stack"] : []),
    ];
    return [
      formatProtocol(protocol),
      source,
      called,
      from ?? "-",
      to ?? "-",
      state,
      formatSeconds(idleSeconds),
      notes.join(", "),
    ];
  });
  return formatTable(["PROTOCOL", "SOURCE", "DESTINATION", "FROM", "TO", "STATE", "IDLE", ""], rows);
}

/** `7s`, `3m7s`, `2h3m`, `4d2h`. */
function formatSeconds(seconds: number): string {
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ];
  if (days > 0) return `${days}d${hours % 24}h`;
  if (hours > 0) return `${hours}h${minutes % 60}m`;
  return minutes > 0 ? `${minutes}m${seconds % 60}s` : `${seconds}s`;
}

/** A paragraph for each. */
export function formatPolicies(policies: readonly DumpedPolicy[]): string {
  if (policies.length === 0) return "No interface runs a policy.\n";
  return policies
    .map(({ policy, tier, direction, isStaged, rules, usedBy }) => {
      const staged = isStaged ? " (counts for staged policies)" : "";
      const inTier = tier === "" ? "" : ` in tier ${tier}`;
      const rows = rules.map(({ rule, action, when, packets, bytes }) => [
        `  ${rule}`,
        action,
        formatWhen(when),
        `${packets} packets, ${bytes} bytes`,
      ]);
      const body = rows.length === 0 ? "  no rules\n" : formatTable(["  RULE", "ACTION", "PACKETS THAT", "SEEN"], rows);
      return `${formatKeyText(policy)}${inTier}, ${direction}${staged}, at ${usedBy.join(", ")}\n${body}`;
    })
    .join("\n");
}

export function formatSets(sets: readonly DumpedSet[]): string {
  const rows = sets.flatMap(({ set, type, members }) =>
    members.length === 0 ? [[set, type, "-"]] : members.map((member) => [set, type, formatMember(type, member)]),
  );
  return formatTable(["SET", "TYPE", "MEMBER"], rows);
}

/** `10.65.0.1,6,80` as `10.65.0.1 tcp 80`. */
function formatMember(type: string, member: string): string {
  if (type !== "address-port") return member;
  const [addr = "", protocol, port] = member.split(",");
  return `${addr} ${formatProtocol(Number(protocol) as Parameters<typeof formatProtocol>[0])} ${port}`;
}

/** A paragraph for each. */
export function formatEndpoints(endpoints: readonly DumpedEndpoint[]): string {
  if (endpoints.length === 0) return "No interface has an endpoint.\n";
  return endpoints
    .map(({ interface: name, index, kind, endpoint, addresses, sources, stages }) => {
      const of = endpoint === undefined ? "not named yet" : formatKeyText(endpoint);
      const also = sources.length === 0 ? "" : `, sends also from ${sources.join(" ")}`;
      const head = `${name}${name === "*" ? "" : ` (${index})`}: ${kind} ${of}, ${addresses.join(" ") || "no address"}${also}\n`;
      return head + stages.map((stage) => `  ${formatStage(stage)}\n`).join("");
    })
    .join("\n");
}

function formatStage({ hook, direction, isStaged, stage, sharedBy }: DumpedStage): string {
  const parts = [
    ...stage.tiers.map(
      ({ tier, policies, otherwise }) => `tier ${tier}: ${policies.map(formatKeyText).join(", ")}, else ${otherwise}`,
    ),
    ...(stage.profiles.length === 0 ? [] : [`profiles: ${stage.profiles.map(formatKeyText).join(", ")}`]),
    stage.otherwise,
  ];
  const shared = sharedBy > 1 ? ` (${sharedBy} endpoints alike)` : "";
  return `${isStaged ? "staged " : ""}${hook === "normal" ? "" : `${hook} `}${direction}: ${parts.join("; ")}${shared}`;
}

export function formatPathCounters({ policies, endpoints, drops, past, maps, missed }: PathCounters): string {
  const rules = policies.flatMap(({ policy, tier, direction, isStaged, rules: own }) =>
    own.map(({ rule, action, packets, bytes }) => [
      formatKeyText(policy),
      tier,
      `${isStaged ? "staged " : ""}${direction}`,
      `${rule}`,
      action,
      `${packets}`,
      `${bytes}`,
    ]),
  );
  const ends = endpoints.flatMap(({ interface: name, endpoint, stages }) =>
    stages.flatMap(({ hook, direction, isStaged, ends: own, sharedBy }) =>
      own.map(({ end, action, packets, bytes }) => [
        endpoint === undefined ? "-" : formatKeyText(endpoint),
        sharedBy > 1 ? `${name} and ${sharedBy - 1} alike` : name,
        `${isStaged ? "staged " : ""}${hook === "normal" ? "" : `${hook} `}${direction}`,
        end,
        action,
        `${packets}`,
        `${bytes}`,
      ]),
    ),
  );
  const tables = [
    formatTable(["POLICY", "TIER", "DIRECTION", "RULE", "ACTION", "PACKETS", "BYTES"], rules),
    formatTable(["ENDPOINT", "INTERFACE", "DIRECTION", "NO RULE DECIDED", "ACTION", "PACKETS", "BYTES"], ends),
    formatTable(
      ["DROPPED BEFORE POLICY", "PACKETS"],
      drops.map(({ step, packets }) => [step, `${packets}`]),
    ),
    formatMaps(maps),
  ];
  return `${tables.join("\n")}\nPast the host stack: ${past} packets\nNot told of, because there were too many: ${missed} denied or logged packets\n`;
}

export function formatMaps(maps: readonly MapFill[]): string {
  return formatTable(
    ["MAP", "ENTRIES", "ROOM", "BYTES OF MEMORY"],
    maps.map(({ map, entries, room, bytes }) => [
      map,
      entries === undefined ? "-" : `${entries}`,
      `${room}`,
      `${bytes}`,
    ]),
  );
}

/** `NetworkPolicy/shop/web` as `NetworkPolicy shop/web`. */
function formatKeyText(key: string): string {
  return key.replace("/", " ");
}

function formatWhen(when: readonly Clause[]): string {
  return when.length === 0 ? "any" : when.map(formatClause).join(", and ");
}

function formatClause({ not, any }: Clause): string {
  if (any.length === 0) return not ? "any" : "none";
  const words = any.map(formatAtom).join(" or ");
  return not ? `not (${words})` : words;
}

function formatAtom(atom: Atom): string {
  switch (atom.on) {
    case "ip-version":
      return `IPv${atom.is}`;
    case "protocol":
      return formatProtocol(atom.is);
    case "ports": {
      const ports = atom.from === atom.to ? `${atom.from}` : `${atom.from}-${atom.to}`;
      return `${formatProtocol(atom.protocol)} ${atom.side} port ${ports}`;
    }
    case "icmp":
      return `${formatProtocol(atom.protocol)} type ${atom.type}${atom.code === undefined ? "" : ` code ${atom.code}`}`;
    case "set":
      return `${atom.side} in ${atom.set}`;
    case "named-port":
      return `${formatProtocol(atom.protocol)} ${atom.side} and port in ${atom.set}`;
    default:
      return assertNever(atom);
  }
}
