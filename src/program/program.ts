/**
 * Program: everything this node's kernel should be doing, as plain data in a few keyed tables. The waist of the product: everything
 * left of it decides and is pure, everything right of it acts and makes no decision.
 *
 * Invariants: every id named is present; a set exists exactly while a rule names it; v4 and v6 live in the same tables.
 */
import type { Brand } from "../lib/brand.ts";
import { differences } from "../lib/common-ends.ts";
import type { Key } from "../model/key.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";
import type { Policy, PolicyId, SetId, SetMembers, Stage } from "./policy.ts";
import type { Route, RouteId } from "./route.ts";

/** The interface of the endpoint: the host-side interface of a workload, `cali…` or `tap…`; the device of a host endpoint, or `*` for all other devices. */
export type EndpointId = Brand<string, "EndpointId">;

/** The host endpoint for every interface that is neither a workload's nor another host endpoint's. */
export const EVERY_INTERFACE = "*" as EndpointId;

/** Where traffic enters and leaves, and what each hook and direction runs. */
export interface Endpoint {
  readonly kind: "workload" | "host";
  readonly source: Key;
  /** Of a workload: the source addresses accepted from it, and the only destinations delivered to it. Of a host endpoint: its addresses. */
  readonly addresses: readonly Addr[];
  /** Of a workload: prefixes with more source addresses accepted from it, disjoint and sorted; absent: none. */
  readonly sources?: readonly Prefix[];
  /** A workload has exactly the two directions of `normal`. Traffic passes where a host endpoint has no stage. */
  readonly stages: Stages;
  /**
   * What each hook and direction would run with every staged policy enforced, where one of them makes a difference. It is asked before the
   * stage (or where there is none, in its place) and its rules count what they match: it decides nothing, and logs nothing.
   */
  readonly staged?: Stages;
}

/** `ingress`: towards the endpoint. `egress`: from it. */
export type Stages = { readonly [H in Hook]?: { readonly [D in Direction]?: Stage } };

interface PlacedStage {
  readonly hook: Hook;
  readonly direction: Direction;
  readonly stage: Stage;
}

export function stagesOf(endpoint: Pick<Endpoint, "stages">): readonly PlacedStage[] {
  return placed(endpoint.stages);
}

export function stagedOf({ staged }: Pick<Endpoint, "staged">): readonly PlacedStage[] {
  return staged === undefined ? [] : placed(staged);
}

function placed(stages: Stages): readonly PlacedStage[] {
  const found: PlacedStage[] = [];
  for (const hook of HOOKS)
    for (const direction of DIRECTIONS) {
      const stage = stages[hook]?.[direction];
      if (stage !== undefined) found.push({ hook, direction, stage });
    }
  return found;
}

/** Whether traffic there is asked of anything, be it only to count. */
export function hasStage(
  { stages, staged }: Pick<Endpoint, "stages" | "staged">,
  hook: Hook,
  direction: Direction,
): boolean {
  return stages[hook]?.[direction] !== undefined || staged?.[hook]?.[direction] !== undefined;
}

export const HOOKS: readonly Hook[] = ["untracked", "pre-dnat", "forward", "normal"];
export const DIRECTIONS: readonly Direction[] = ["ingress", "egress"];

/** The policies and profiles that the stage names, with repetitions. */
export function policiesNamedBy(stage: Stage): readonly PolicyId[] {
  const names = namesOfTiers(stage.tiers);
  return stage.profiles.length === 0 ? names : [...names, ...stage.profiles];
}

/** The policies and profiles that the stage names, each once: a policy is of one tier, but a profile may be named twice. */
export function namesIn(stage: Stage | undefined): readonly PolicyId[] {
  if (stage === undefined) return NO_NAMES;
  const names = policiesNamedBy(stage);
  return stage.profiles.length < 2 ? names : [...new Set(names)];
}

const NO_NAMES: readonly PolicyId[] = [];

/** The policies and profiles that only one of two versions of a stage names, each once. Of tiers that are the same objects nothing is looked at. */
export function changedNames(
  before: Stage | undefined,
  now: Stage | undefined,
): { readonly added: readonly PolicyId[]; readonly removed: readonly PolicyId[] } {
  if (before === undefined || now === undefined || before.profiles.length + now.profiles.length > 0)
    return differences(namesIn(before), namesIn(now));
  const removed = before.tiers.filter((tier) => !now.tiers.includes(tier));
  const added = now.tiers.filter((tier) => !before.tiers.includes(tier));
  return differences(namesOfTiers(removed), namesOfTiers(added));
}

function namesOfTiers(tiers: Stage["tiers"]): readonly PolicyId[] {
  const [only] = tiers;
  if (only === undefined) return NO_NAMES;
  return tiers.length === 1 ? only.policies : tiers.flatMap(({ policies }) => policies);
}

/** A stage that is another object than before; undefined: there was none, or there is none now. */
export interface ChangedStage {
  readonly kind: Endpoint["kind"];
  readonly which: "stages" | "staged";
  readonly hook: Hook;
  readonly direction: Direction;
  readonly before: Stage | undefined;
  readonly now: Stage | undefined;
}

/** Those of an endpoint; one of another kind has other stages, all of them. */
export function changedStages(before: Endpoint | undefined, now: Endpoint | undefined): readonly ChangedStage[] {
  if (before !== undefined && now !== undefined && before.kind !== now.kind)
    return [...changedStages(before, undefined), ...changedStages(undefined, now)];
  const kind = (now ?? before)?.kind;
  const changed: ChangedStage[] = [];
  if (kind === undefined) return changed;
  for (const which of ["stages", "staged"] as const) {
    const [old, current] = [before?.[which], now?.[which]];
    if (old === current) continue;
    for (const hook of HOOKS)
      for (const direction of DIRECTIONS) {
        const [was, is] = [old?.[hook]?.[direction], current?.[hook]?.[direction]];
        if (was !== is) changed.push({ kind, which, hook, direction, before: was, now: is });
      }
  }
  return changed;
}

/** What holds for the whole node. */
export interface Settings {
  /** Traffic of the host that policy never denies, so that operators cannot lock themselves out. */
  readonly failsafes: { readonly [D in Direction]: readonly FailsafePort[] };
  /** What becomes of packets from a workload to its own node that its egress policy allowed. Upstream: defaultEndpointToHostAction. */
  readonly endpointToHost: "accept" | "drop";
  /** What a rule that logs writes before the packet: `%t` is the tier, `%k` a short word for the kind, `%n` the name, `%p` with its namespace. */
  readonly logPrefix: string;
  readonly dataplane: DataplaneChoice;
  /** Established flows between workloads bypass the hooks where the dataplane and the kernel can. Upstream: nftablesFlowTableOffload. */
  readonly offloadsFlows: boolean;
  /** With eBPF, packets in the middle of flows go from one interface to the other past the host stack. Upstream: bpfRedirectToPeer. */
  readonly goesPastStack: boolean;
  /** How the names of workloads' interfaces begin, `cali` always among them. Upstream: interfacePrefix. */
  readonly workloadPrefixes: readonly string[];
  /** Workloads may have source prefixes. Upstream: workloadSourceSpoofing. */
  readonly allowsSourcePrefixes: boolean;
}

/** What programs policy into the kernel; `iptables` leaves the variant to what the node has in use. */
export type DataplaneChoice = "nftables" | "ebpf" | "iptables" | "iptables-legacy" | "iptables-nft";

/** A port of the host (`ingress`), or a port that the host connects to (`egress`), at any address or at those of `net`. */
export interface FailsafePort {
  readonly protocol: Protocol;
  readonly port: number;
  readonly net?: Prefix | undefined;
}

export interface Program {
  readonly settings: Settings;
  readonly sets: ReadonlyMap<SetId, SetMembers>;
  readonly policies: ReadonlyMap<PolicyId, Policy>;
  readonly endpoints: ReadonlyMap<EndpointId, Endpoint>;
  readonly routes: ReadonlyMap<RouteId, Route>;
}

/** The new value of each key that changed; undefined: removed. */
export type Delta<K, V> = ReadonlyMap<K, V | undefined>;

/** Changed rows by table. For a changed set, the whole new value and the members that were added and removed. */
export interface ProgramDelta {
  readonly sets: Delta<SetId, SetMembers>;
  readonly policies: Delta<PolicyId, Policy>;
  readonly endpoints: Delta<EndpointId, Endpoint>;
  readonly routes: Delta<RouteId, Route>;
  /** The change of each set in `sets` that existed before and keeps its type, so that work stays proportional to the change. */
  readonly members: ReadonlyMap<SetId, MemberChange>;
  /** Absent: they are as they were. */
  readonly settings?: Settings;
}

/** Members by their text: address, prefix, or address-port. */
export interface MemberChange {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}
