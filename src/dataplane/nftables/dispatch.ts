/** dispatch: what leads a packet to the stages of its endpoint, and which source addresses an endpoint may use, as rows and their keys. */
import type { NftElement, NftSet } from "../../kernel/nftables/objects.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import { addrFromInteger, FAMILIES, familyOf } from "../../net/addr.ts";
import { prefixRange } from "../../net/prefix.ts";
import { DIRECTIONS, type Endpoint, type EndpointId, EVERY_INTERFACE, hasStage, HOOKS } from "../../program/program.ts";
import { FAMILY_MAP, type HostStage, sourceNetsOf, sourcesOf, VERDICT_MAP } from "./base.ts";
import { hexAddr, hexFamily, hexInterface } from "./bytes.ts";
import { everyHostMap, hostMap, sourceNetsSet, sourcesSet, stageChain, workloadMap } from "./names.ts";
import { elementId, type NftRow } from "./rows.ts";
import { continuationOf } from "../uses.ts";

/** Hooks and directions for which some host endpoint has a stage. */
export function hostStagesOf(endpoints: ReadonlyMap<EndpointId, Endpoint>): HostStage[] {
  const hosts = [...endpoints].filter(([, { kind }]) => kind === "host");
  return HOOKS.flatMap((hook) =>
    DIRECTIONS.flatMap((direction) => {
      const has = ([, host]: readonly [EndpointId, Endpoint]): boolean => hasStage(host, hook, direction);
      if (!hosts.some(has)) return [];
      const isForAll = hosts.some((host) => host[0] === EVERY_INTERFACE && has(host));
      return [
        { hook, direction, exempt: isForAll ? hosts.flatMap((host) => (has(host) ? [] : [host[0]])).sort() : [] },
      ];
    }),
  );
}

/** The source addresses that the endpoint may use. */
export function addressRows(id: EndpointId, { kind, addresses, sources = [] }: Endpoint): Map<string, NftRow> {
  const rows = new Map<string, NftRow>();
  for (const addr of kind === "host" ? [] : addresses) {
    const family = familyOf(addr);
    const set = sourcesSet(family);
    const element: NftElement = { key: hexInterface(id) + hexAddr(addr), keyEnd: undefined, verdict: undefined };
    rows.set(elementId(set, element), { type: "element", set, is: sourcesOf(family), element });
  }
  for (const { first, last, family } of sources.map(prefixRange)) {
    const set = sourceNetsSet(family);
    const key = (addr: bigint): string => hexInterface(id) + hexAddr(addrFromInteger(family, addr));
    const element: NftElement = { key: key(first), keyEnd: key(last), verdict: undefined };
    rows.set(elementId(set, element), { type: "element", set, is: sourceNetsOf(family), element });
  }
  return rows;
}

/** What leads to the stage: the base chain goes on after one that allows by returning to it. */
export function dispatchRows(
  id: EndpointId,
  endpoint: Endpoint,
  hook: Hook,
  direction: Direction,
): Map<string, NftRow> {
  const { kind } = endpoint;
  const rows = new Map<string, NftRow>();
  const type = kind === "workload" && continuationOf(kind, hook, direction) === "continue" ? "jump" : "goto";
  const chain = stageChain(id, endpoint, hook, direction);
  for (const { map, is, key } of dispatchOf(id, kind, hook, direction)) {
    const element: NftElement = { key, keyEnd: undefined, verdict: { type, chain } };
    rows.set(elementId(map, element), { type: "element", set: map, is, element });
  }
  return rows;
}

/** Where the dispatch to the stage of an endpoint is written down. */
function dispatchOf(
  id: EndpointId,
  kind: Endpoint["kind"],
  hook: Hook,
  direction: Direction,
): readonly { readonly map: string; readonly is: NftSet; readonly key: string }[] {
  if (kind === "workload") return [{ map: workloadMap(direction), is: VERDICT_MAP, key: hexInterface(id) }];
  if (id !== EVERY_INTERFACE) return [{ map: hostMap(hook, direction), is: VERDICT_MAP, key: hexInterface(id) }];
  const map = everyHostMap(hook, direction);
  return FAMILIES.map((family) => ({ map, is: FAMILY_MAP, key: hexFamily(family) }));
}
