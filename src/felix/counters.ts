/** counters: what policy's rules have seen, for Prometheus (`/metrics/policies`) and for people (`calico node --counters`). */
import { Gauge, Registry } from "prom-client";
import type { Count, Counters, NodeCounters } from "../dataplane/counters.ts";
import type { Sockets } from "../host/sockets.ts";
import { formatName, type Key } from "../model/key.ts";
import { askDaemon, type DaemonAddress } from "./ask.ts";
import { formatMaps } from "./bpf-format.ts";
import { formatTable } from "./table.ts";

const UNITS = ["packets", "bytes"] as const;

/** Gauges, because a counter starts again when its chain is made anew. */
export async function policyMetrics({
  staged,
  drops = [],
  maps = [],
  past,
  ...decided
}: Counters): Promise<{ readonly text: string; readonly type: string }> {
  const registry = new Registry();
  addGauges(registry, decided, {
    prefix: "calico_policy",
    rule: "that the rule has decided, passed on or logged since its chain was made.",
    end: "that no rule has decided, by endpoint and by what happened then.",
  });
  if (staged !== undefined)
    addGauges(registry, staged, {
      prefix: "calico_policy_staged",
      rule: "that the rule would have decided, passed on or logged with all staged policies enforced.",
      end: "that no rule would have decided with all staged policies enforced, by endpoint and by what would have happened then.",
    });
  addPathGauges(registry, { drops, maps });
  if (past !== undefined)
    new Gauge({
      name: "calico_path_past_stack_packets",
      help: "packets in the middle of flows that went past the host stack.",
      registers: [registry],
    }).set(past);
  return { text: await registry.metrics(), type: registry.contentType };
}

interface GaugeWords {
  readonly prefix: string;
  readonly rule: string;
  readonly end: string;
}

function addGauges(registry: Registry, { rules, ends }: Pick<Counters, "rules" | "ends">, words: GaugeWords): void {
  const registers = [registry];
  for (const unit of UNITS) {
    const ofRules = new Gauge({
      name: `${words.prefix}_rule_${unit}`,
      help: `${unit} ${words.rule}`,
      labelNames: ["kind", "namespace", "name", "tier", "direction", "rule", "action", "rule_name"],
      registers,
    });
    for (const { policy, tier, direction, rule, action, name = "", ...count } of rules)
      ofRules.set({ ...labelsOf(policy), tier, direction, rule, action, rule_name: name }, count[unit]);
    const ofEnds = new Gauge({
      name: `${words.prefix}_end_${unit}`,
      help: `${unit} ${words.end}`,
      labelNames: ["endpoint", "kind", "namespace", "name", "hook", "direction", "end", "action"],
      registers,
    });
    for (const { endpoint, source, hook, direction, end, action, ...count } of ends)
      ofEnds.set({ endpoint, ...labelsOf(source), hook, direction, end, action }, count[unit]);
  }
}

const MAP_GAUGES = [
  ["entries", "Entries of the map."],
  ["room", "Entries for which the map has room."],
  ["bytes", "Bytes of memory of the map."],
] as const;

function addPathGauges(registry: Registry, { drops = [], maps = [] }: Pick<Counters, "drops" | "maps">): void {
  const registers = [registry];
  const dropped = new Gauge({
    name: "calico_path_dropped_packets",
    help: "packets that a step of the path has dropped before policy was asked.",
    labelNames: ["step"],
    registers,
  });
  for (const { step, packets } of drops) dropped.set({ step }, packets);
  for (const [what, help] of MAP_GAUGES) {
    const fill = new Gauge({ name: `calico_bpf_map_${what}`, help, labelNames: ["map"], registers });
    for (const { map, ...counts } of maps) if (counts[what] !== undefined) fill.set({ map }, counts[what]);
  }
}

function labelsOf({ kind, namespace = "", name }: Key): Readonly<Record<"kind" | "namespace" | "name", string>> {
  return { kind, namespace, name };
}

/** Rejects with SocketError when no daemon answers there. */
export async function askCounters(
  sockets: Pick<Sockets, "fetch">,
  address: DaemonAddress,
  asJson: boolean,
): Promise<string> {
  const counters = await askDaemon(sockets, address, "/counters", (body) =>
    typeof body === "object" && body !== null && "rules" in body && Array.isArray(body.rules)
      ? (body as NodeCounters)
      : undefined,
  );
  return asJson ? `${JSON.stringify(counters, null, 2)}\n` : formatCounters(counters);
}

/** Rules in order of tier and policy as the daemon has them, then what no rule decided; the same with the staged policies enforced. */
export function formatCounters({ staged, unknown = [], ...decided }: Counters & Partial<NodeCounters>): string {
  const lines = unknown.map((why) => `Not all staged policies are counted: ${why}\n`);
  const notes = lines.length === 0 ? "" : `\n${lines.join("")}`;
  if (staged === undefined) return `${tables(decided)}${notes}`;
  return `${tables(decided)}\nWith all staged policies enforced:\n\n${tables(staged)}${notes}`;
}

function tables({ rules, ends, drops, past, maps }: Counters): string {
  const numbers = ({ packets, bytes }: Count): string[] => [String(packets), String(bytes)];
  const written = rules.map(({ policy, tier, direction, rule, action, ...count }) => [
    `${policy.kind} ${formatName(policy)}`,
    tier,
    direction,
    String(rule),
    action,
    ...numbers(count),
  ]);
  const undecided = ends.map(({ endpoint, source, hook, direction, end, action, ...count }) => [
    `${source.kind} ${formatName(source)}`,
    endpoint,
    hook === "normal" ? direction : `${hook} ${direction}`,
    end,
    action,
    ...numbers(count),
  ]);
  return [
    formatTable(["POLICY", "TIER", "DIRECTION", "RULE", "ACTION", "PACKETS", "BYTES"], written),
    formatTable(["ENDPOINT", "INTERFACE", "DIRECTION", "NO RULE DECIDED", "ACTION", "PACKETS", "BYTES"], undecided),
    ...(drops === undefined
      ? []
      : [
          formatTable(
            ["DROPPED BEFORE POLICY", "PACKETS"],
            drops.map(({ step, packets }) => [step, String(packets)]),
          ),
        ]),
    ...(past === undefined ? [] : [`Past the host stack: ${past} packets\n`]),
    ...(maps === undefined ? [] : [formatMaps(maps)]),
  ].join("\n");
}
