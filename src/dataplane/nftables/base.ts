/**
 * base: the packet's path (program/path.ts) as base chains, one for each hook that is in use: the checks around policy, and the dispatch to
 * the stages of endpoints.
 *
 * A stage of a workload that allows by `continue` returns here, so that no endpoint's chain leads to another endpoint's: the kernel follows
 * every way through the table whenever a rule changes.
 */
import type { Expr, NftRule, NftSet, NftVerdict } from "../../kernel/nftables/objects.ts";
import { assertNever } from "../../lib/bug.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import { FAMILIES, type Family } from "../../net/addr.ts";
import { prefixFamily } from "../../net/prefix.ts";
import type { Side } from "../../program/policy.ts";
import {
  type Condition,
  type Connection,
  LOOPBACK,
  PATH_HOOKS,
  type StageStep,
  type Step,
  stepsInUse,
} from "../../program/path.ts";
import type { EndpointId, FailsafePort, Settings } from "../../program/program.ts";
import { hex16, hex8, hexInterface, hexText } from "./bytes.ts";
import { hasMark } from "./marks.ts";
import { TCP, UDP } from "../../net/protocol.ts";
import { isFamily, isProtocol, loadAddr, loadPort } from "./match.ts";
import {
  everyHostMap,
  FLOWTABLE,
  hookChain,
  hostDispatchChain,
  hostMap,
  OFFLOAD_CHAIN,
  sourceNetsSet,
  sourcesSet,
  workloadMap,
} from "./names.ts";
import { icmp6Type, isIn, ZERO } from "./header-match.ts";
import { chainId, flowtableId, type NftRow, setId } from "./rows.ts";

export const VERDICT_MAP: NftSet = { key: ["ifname"], interval: false, verdictMap: true };
/** For what does not depend on the interface: both IP versions have the same verdict. */
export const FAMILY_MAP: NftSet = { key: ["nf_proto"], interval: false, verdictMap: true };

export function sourcesOf(family: Family): NftSet {
  return { key: ["ifname", family === 4 ? "ipv4_addr" : "ipv6_addr"], interval: false, verdictMap: false };
}

export function sourceNetsOf(family: Family): NftSet {
  return { ...sourcesOf(family), interval: true };
}

/** A hook and direction for which some host endpoint has a stage. */
export interface HostStage {
  readonly hook: Hook;
  readonly direction: Direction;
  /** Devices that pass by the stage of every device, because they have an endpoint of their own, without such a stage. */
  readonly exempt: readonly EndpointId[];
}

/** What endpoints have of which the base depends. */
export interface BaseUse {
  readonly hostStages: readonly HostStage[];
  /** Some workload has source prefixes. */
  readonly hasSources: boolean;
}

/** The rows that follow from the path, the settings and the stages that host endpoints have, and from no single endpoint. */
export function baseRows(settings: Settings, { hostStages, hasSources }: BaseUse): Map<string, NftRow> {
  const rows = new Map<string, NftRow>();
  for (const family of FAMILIES)
    rows.set(setId(sourcesSet(family)), { type: "set", set: sourcesSet(family), is: sourcesOf(family) });
  for (const family of hasSources ? FAMILIES : [])
    rows.set(setId(sourceNetsSet(family)), { type: "set", set: sourceNetsSet(family), is: sourceNetsOf(family) });
  for (const direction of ["egress", "ingress"] as const) addMap(rows, workloadMap(direction), VERDICT_MAP);
  for (const stage of hostStages) {
    addMap(rows, hostMap(stage.hook, stage.direction), VERDICT_MAP);
    addMap(rows, everyHostMap(stage.hook, stage.direction), FAMILY_MAP);
    addChain(rows, hostDispatchChain(stage.hook, stage.direction), dispatchToHost(stage));
  }
  const has = ({ hook, direction }: StageStep): boolean =>
    hostStages.some((stage) => stage.hook === hook && stage.direction === direction);
  if (settings.offloadsFlows) addOffload(rows, settings);
  for (const hook of PATH_HOOKS) {
    const steps = stepsInUse(hook, has);
    if (steps.length === 0) continue;
    const compiler = new HookCompiler(settings, rows, {
      offloads: settings.offloadsFlows && hook === "forward",
      hasSources,
    });
    const chain = hookChain(hook);
    rows.set(chainId(chain), { type: "chain", chain, base: BASES[hook], rules: compiler.rules(steps) });
  }
  return rows;
}

/** Priorities of linux/netfilter_ipv4.h: raw before connection tracking, mangle before translation, filter. */
const RAW = -300;
const MANGLE = -150;
const FILTER = 0;

export const BASES = {
  "raw-prerouting": { hook: "prerouting", priority: RAW, policy: "accept" },
  prerouting: { hook: "prerouting", priority: MANGLE, policy: "accept" },
  input: { hook: "input", priority: FILTER, policy: "accept" },
  forward: { hook: "forward", priority: FILTER, policy: "accept" },
  "raw-output": { hook: "output", priority: RAW, policy: "accept" },
  output: { hook: "output", priority: FILTER, policy: "accept" },
} as const;

function addMap(rows: Map<string, NftRow>, name: string, is: NftSet): void {
  rows.set(setId(name), { type: "set", set: name, is });
}

function addChain(rows: Map<string, NftRow>, chain: string, rules: readonly NftRule[]): void {
  rows.set(chainId(chain), { type: "chain", chain, base: undefined, rules });
}

/** Of devices' hook ingress, where flowtables look at packets. */
export const FLOWTABLE_PRIORITY = FILTER;

/**
 * The flowtable, and the chain to which established packets go in its forward chain: it accepts them all. Flows between two workloads go into the
 * flowtable; every other one goes on being accepted here packet by packet. A packet with the source of another workload does not come here, and in the
 * flowtable finds no flow: the device by which a flow's packets arrive is part of its key there. Source: linux net/netfilter/nf_flow_table_core.c.
 */
function addOffload(rows: Map<string, NftRow>, settings: Settings): void {
  rows.set(flowtableId(FLOWTABLE), { type: "flowtable", flowtable: FLOWTABLE, priority: FLOWTABLE_PRIORITY });
  const offload: Expr[] = [{ op: "flow-offload", flowtable: FLOWTABLE }];
  const rules = isWorkload("iifname", settings).flatMap((from) =>
    isWorkload("oifname", settings).flatMap((to) =>
      [TCP, UDP].map((protocol) =>
        rule(undefined, isConnection(["established"]), from, to, isProtocol(protocol, "eq"), offload),
      ),
    ),
  );
  addChain(rows, OFFLOAD_CHAIN, [...rules, rule(undefined, verdict({ type: "accept" }))]);
}

/** The device's own endpoint, else the one of every device. */
function dispatchToHost({ hook, direction, exempt }: HostStage): NftRule[] {
  const device = loadInterface(direction === "ingress" ? "iifname" : "oifname");
  const version: Expr = { op: "meta", key: "nfproto", register: 0 };
  return [
    rule(undefined, [device, lookUpVerdict(hostMap(hook, direction))]),
    ...exempt.map((name) =>
      rule(
        undefined,
        [device, { op: "cmp", compare: "eq", register: 0, data: hexInterface(name) }],
        verdict({ type: "return" }),
      ),
    ),
    rule(undefined, [version, lookUpVerdict(everyHostMap(hook, direction))]),
  ];
}

function rule(comment: string | undefined, ...parts: readonly (readonly Expr[])[]): NftRule {
  return { expressions: parts.flat(), comment };
}

export function verdict(verdict: NftVerdict): Expr[] {
  return [{ op: "verdict", verdict }];
}

const COUNTER: readonly Expr[] = [{ op: "counter" }];

type InterfaceKey = "iifname" | "oifname";

function loadInterface(key: InterfaceKey): Expr {
  return { op: "meta", key, register: 0 };
}

function lookUpVerdict(map: string): Expr {
  return { op: "verdict-map", map, register: 0 };
}

/** For each way in which a workload's interface may be called. The name takes slots 0 to 3. */
function isWorkload(key: InterfaceKey, { workloadPrefixes }: Settings): Expr[][] {
  return workloadPrefixes.map((prefix) => [
    loadInterface(key),
    { op: "cmp", compare: "eq", register: 0, data: hexText(prefix) },
  ]);
}

function isNoWorkload(key: InterfaceKey, { workloadPrefixes }: Settings): Expr[] {
  return [
    loadInterface(key),
    ...workloadPrefixes.map((prefix): Expr => ({ op: "cmp", compare: "neq", register: 0, data: hexText(prefix) })),
  ];
}

class HookCompiler {
  readonly #settings: Settings;
  readonly #rows: Map<string, NftRow>;
  readonly #offloads: boolean;
  readonly #hasSources: boolean;

  /** Chains of groups are added to `rows`. `offloads`: established packets are accepted by way of the flowtable's chain. */
  constructor(
    settings: Settings,
    rows: Map<string, NftRow>,
    { offloads, hasSources }: { readonly offloads: boolean; readonly hasSources: boolean },
  ) {
    this.#settings = settings;
    this.#rows = rows;
    this.#offloads = offloads;
    this.#hasSources = hasSources;
  }

  rules(steps: readonly Step[]): NftRule[] {
    return steps.flatMap((step) => this.#step(step));
  }

  #step(step: Step): NftRule[] {
    switch (step.do) {
      case "accept":
        return this.#when(step.when).map((match) =>
          rule(
            undefined,
            match,
            verdict(
              this.#offloads && step.when.some(isEstablished)
                ? { type: "goto", chain: OFFLOAD_CHAIN }
                : { type: "accept" },
            ),
          ),
        );
      case "drop":
        return this.#when(step.when).map((match) => rule(step.name, match, COUNTER, verdict({ type: "drop" })));
      case "stage":
        return [step.of === "workload" ? dispatchToWorkload(step) : this.#dispatchToHost(step)];
      case "group":
        this.#group(step.name, step.steps);
        return this.#when(step.when).map((match) =>
          rule(undefined, match, verdict({ type: "goto", chain: step.name })),
        );
      default:
        return assertNever(step);
    }
  }

  /** Accepts at its end, unless its last step leaves nothing over. */
  #group(chain: string, steps: readonly Step[]): void {
    const last = steps.at(-1);
    const isOpen = last === undefined || last.do !== "drop" || last.when.length > 0;
    const rules = this.rules(steps);
    addChain(this.#rows, chain, isOpen ? [...rules, rule(undefined, verdict({ type: "accept" }))] : rules);
  }

  /** What belongs to a workload is none of its business. */
  #dispatchToHost({ hook, direction }: StageStep): NftRule {
    const key = direction === "ingress" ? "iifname" : "oifname";
    return rule(
      undefined,
      isNoWorkload(key, this.#settings),
      verdict({ type: "jump", chain: hostDispatchChain(hook, direction) }),
    );
  }

  /** All conditions as one list of expressions; several where an OR cannot be said in one rule. */
  #when(conditions: readonly Condition[]): Expr[][] {
    if (!conditions.some(readsFamily)) return this.#whenOf(conditions, 4);
    const families = FAMILIES.filter((family) => conditions.every((condition) => isOfFamily(condition, family)));
    return families.flatMap((family) =>
      this.#whenOf(conditions, family).map((expressions) => [...isFamily(family), ...expressions]),
    );
  }

  #whenOf(conditions: readonly Condition[], family: Family): Expr[][] {
    let matches: Expr[][] = [[]];
    for (const condition of conditions) {
      const alternatives = this.#condition(condition, family);
      matches = matches.flatMap((match) => alternatives.map((expressions) => [...match, ...expressions]));
    }
    return matches;
  }

  #condition(condition: Condition, family: Family): Expr[][] {
    switch (condition.is) {
      case "from-workload":
        return isWorkload("iifname", this.#settings);
      case "to-workload":
        return isWorkload("oifname", this.#settings);
      case "foreign-source":
        return isWorkload("iifname", this.#settings).map((match) => [
          ...match,
          ...sourceIsForeign(family, this.#hasSources),
        ]);
      case "loopback-destination":
        return [isIn(LOOPBACK[family], "destination")];
      case "connection":
        return [isConnection(condition.in)];
      case "source-in":
        return [isIn(condition.prefix, "source")];
      case "icmp6":
        return [icmp6Type(condition.from, condition.to)];
      case "failsafe":
        return this.#failsafe(condition.direction, condition.reply);
      case "host-denied":
        return this.#settings.endpointToHost === "drop" ? [[]] : [];
      case "allowed-untracked":
        return [[...isConnection(["untracked"]), ...hasMark("allowed")]];
      default:
        return assertNever(condition);
    }
  }

  /** At the host's own devices alone. */
  #failsafe(direction: Direction, reply: boolean): Expr[][] {
    const arrives = (direction === "ingress") !== reply;
    const device = isNoWorkload(arrives ? "iifname" : "oifname", this.#settings);
    return this.#settings.failsafes[direction].map((entry) => [
      ...device,
      ...failsafePort(entry, reply, arrives ? "source" : "destination"),
    ]);
  }
}

function failsafePort({ protocol, port, net }: FailsafePort, reply: boolean, other: Side): Expr[] {
  const isNet = net === undefined ? [] : [...isFamily(prefixFamily(net)), ...isIn(net, other)];
  return [
    ...isNet,
    ...isProtocol(protocol, "eq"),
    loadPort(reply ? "source" : "destination", 1),
    { op: "cmp", compare: "eq", register: 1, data: hex16(port) },
  ];
}

function isEstablished(condition: Condition): boolean {
  return condition.is === "connection" && condition.in.includes("established");
}

function readsFamily({ is }: Condition): boolean {
  return is === "foreign-source" || is === "source-in" || is === "loopback-destination" || is === "icmp6";
}

/** The kernel drops what is for `::1` by itself. */
function isOfFamily(condition: Condition, family: Family): boolean {
  if (condition.is === "source-in") return prefixFamily(condition.prefix) === family;
  if (condition.is === "loopback-destination") return family === 4;
  return condition.is === "icmp6" ? family === 6 : true;
}

function dispatchToWorkload({ direction }: StageStep): NftRule {
  return rule(undefined, [
    loadInterface(direction === "egress" ? "iifname" : "oifname"),
    lookUpVerdict(workloadMap(direction)),
  ]);
}

/** `NF_CT_STATE_BIT` of linux/netfilter/nf_conntrack_common.h. */
const STATE_BITS: { readonly [C in Connection]: number } = {
  invalid: 1,
  established: 2,
  related: 4,
  new: 8,
  untracked: 64,
};

/** The state is a u32 in host order (little-endian), as the kernel compares it. */
export function isConnection(states: readonly Connection[]): Expr[] {
  const mask = hex8(states.reduce((bits, state) => bits | STATE_BITS[state], 0)).padEnd(8, "0");
  return [
    { op: "ct", key: "state", register: 0 },
    { op: "bitwise", source: 0, destination: 0, mask, xor: ZERO },
    { op: "cmp", compare: "neq", register: 0, data: ZERO },
  ];
}

/** Of a workload's interface: its name is in the slots 0 to 3, the address takes those after it. */
function sourceIsForeign(family: Family, hasSources: boolean): Expr[] {
  const sets = hasSources ? [sourcesSet(family), sourceNetsSet(family)] : [sourcesSet(family)];
  return [loadAddr("source", family, 4), ...sets.map((set): Expr => ({ op: "lookup", set, register: 0, not: true }))];
}
