/** Host stages: the verdicts of host endpoints at each place where a packet crosses the interface of a node. */
import type { Direction } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import type { FlowPacket } from "../net/flow.ts";
import type { Cluster } from "../semantics/cluster.ts";
import { decide } from "../semantics/decide.ts";
import type { Crossing, HostStage, HostVerdict, HostWorld, Place } from "./hosts.ts";
import type { Veil } from "./unknowns.ts";

export interface Stages {
  readonly stages: readonly HostStage[];
  /** The verdict of a rule before connection tracking, after which nothing of that node is asked any more. */
  readonly untracked?: { readonly verdict: Verdict; readonly isCertain: boolean };
}

/** `part` has the candidates of the crossings, all of one direction. */
export function stagesAt(veil: Veil, part: Cluster, packet: FlowPacket, crossings: readonly Crossing[]): Stages {
  const stages: HostStage[] = [];
  let untracked: Stages["untracked"];
  for (const { node, hook, direction, candidates, isFailsafe } of crossings) {
    const asked = candidates.flatMap((host) => verdictsAt(veil, part, packet, host, hook, direction));
    const verdicts = asked.some(isTelling) && isFailsafe(packet) ? [FAILSAFE] : asked;
    const mayEndBefore: readonly HostVerdict[] =
      untracked === undefined ? [] : [{ action: "allow", reason: untracked.verdict.reason }];
    if (verdicts.some(isTelling))
      stages.push({ node, hook, direction, verdicts: unique([...verdicts, ...mayEndBefore]) });
    if (hook !== "untracked") continue;
    const allowing = verdicts.find(({ action, reason }) => action === "allow" && reason.type === "rule");
    if (allowing === undefined) continue;
    const isCertain = verdicts.every(({ action, reason }) => action === "allow" && reason.type === "rule");
    untracked = { verdict: allowing as Verdict, isCertain };
    if (isCertain) break;
  }
  return untracked === undefined ? { stages } : { stages, untracked };
}

const FAILSAFE: HostVerdict = { action: "allow", reason: { type: "failsafe" } };

function verdictsAt(
  veil: Veil,
  part: Cluster,
  packet: FlowPacket,
  host: Crossing["candidates"][number],
  hook: Crossing["hook"],
  direction: Direction,
): readonly HostVerdict[] {
  if (host === undefined) return [{ action: "allow", reason: { type: "no-host-endpoint" } }];
  const end = { endpoint: host.key, direction, hook, fromOwnNode: false };
  const verdicts = veil.concerns(part, packet)
    ? veil.verdicts(part, packet, end, { is: "host", ...host })
    : [decide(part, packet, end)];
  return verdicts.map((verdict) => ({ ...verdict, endpoint: host.key.name }));
}

/** Whether it is worth a line: some policy or profile was asked. */
function isTelling({ reason }: HostVerdict): boolean {
  return reason.type !== "no-host-endpoint" && reason.type !== "not-isolated";
}

function unique(verdicts: readonly HostVerdict[]): HostVerdict[] {
  return [...new Map(verdicts.map((verdict) => [JSON.stringify(verdict), verdict])).values()];
}

/** What a pod sends to a process of its own node, after its own policy. */
export function endpointToHost({ settingsOf }: HostWorld, source: Place, destination: Place): readonly HostStage[] {
  if (source.is !== "pod" || destination.is !== "host" || destination.node === undefined) return [];
  const { node } = destination;
  if (settingsOf(node).endpointToHost !== "drop" || (source.node !== undefined && source.node !== node)) return [];
  const denied: HostVerdict = { action: "deny", reason: { type: "endpoint-to-host" } };
  const isOpen: readonly HostVerdict[] =
    source.node === undefined ? [{ action: "allow", reason: { type: "no-host-endpoint" } }] : [];
  return [{ node, hook: "normal", direction: "ingress", verdicts: [denied, ...isOpen] }];
}
