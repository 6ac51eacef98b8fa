/**
 * Host bindings: which interface of this node each of its host endpoints protects.
 *
 * An interface belongs to the endpoint that names it or expects one of its addresses, of several to the first by name; `*` is for every
 * other interface. Interfaces of workloads belong to none. An endpoint that names an interface is bound before the interface exists.
 */
import type { HostInterface } from "../model/endpoint.ts";
import type { KeyText } from "../model/key.ts";
import type { Addr } from "../net/addr.ts";
import { isWorkloadInterface } from "../program/path.ts";
import type { Delta, EndpointId, Settings } from "../program/program.ts";
import { DEFAULT_SETTINGS } from "../program/settings.ts";
import { addressesOf, type EndpointsDelta } from "./endpoints.ts";

/** A host endpoint of this node. */
export interface BoundHost {
  readonly key: KeyText;
  readonly host: HostInterface;
  readonly addresses: readonly Addr[];
}

/** The interfaces of each host endpoint; those that have none are absent. Shared with the from-scratch calculation. */
export function bindHosts(
  hosts: Iterable<BoundHost>,
  interfaces: ReadonlyMap<string, readonly Addr[]>,
  settings: Pick<Settings, "workloadPrefixes">,
): Map<KeyText, EndpointId[]> {
  const sorted = [...hosts].sort((a, b) => (a.host.name < b.host.name ? -1 : 1));
  const names = new Set([...interfaces.keys(), ...sorted.flatMap(({ host }) => host.interface ?? [])]);
  const bound = new Map<KeyText, EndpointId[]>();
  for (const name of names) {
    if (isWorkloadInterface(name, settings)) continue;
    const own = interfaces.get(name) ?? [];
    const first = sorted.find(({ host, addresses }) =>
      host.interface === undefined ? addresses.some((addr) => own.includes(addr)) : host.interface === name,
    );
    if (first !== undefined) bound.set(first.key, [...(bound.get(first.key) ?? []), name as EndpointId]);
  }
  return bound;
}

export class HostBindings {
  readonly #hosts = new Map<KeyText, BoundHost>();
  readonly #interfaces = new Map<string, readonly Addr[]>();
  #bound = new Map<KeyText, EndpointId[]>();
  #prefixes = DEFAULT_SETTINGS.workloadPrefixes;

  /** The host endpoints whose interfaces changed. A node has few of both: all are bound anew when any changes. */
  step(
    rows: EndpointsDelta["rows"],
    interfaces: Delta<string, readonly Addr[]>,
    settings: Pick<Settings, "workloadPrefixes">,
  ): ReadonlySet<KeyText> {
    let changed = interfaces.size > 0 || settings.workloadPrefixes !== this.#prefixes;
    this.#prefixes = settings.workloadPrefixes;
    for (const [key, { before, now }] of rows) {
      if (before?.host === undefined && now?.host === undefined) continue;
      changed = true;
      if (now?.host === undefined) this.#hosts.delete(key);
      else this.#hosts.set(key, { key, host: now.host, addresses: addressesOf(now) });
    }
    for (const [name, addresses] of interfaces)
      if (addresses === undefined) this.#interfaces.delete(name);
      else this.#interfaces.set(name, addresses);
    if (!changed) return new Set();
    const before = this.#bound;
    this.#bound = bindHosts(this.#hosts.values(), this.#interfaces, settings);
    const keys = new Set([...before.keys(), ...this.#bound.keys()]);
    return new Set([...keys].filter((key) => String(before.get(key)) !== String(this.#bound.get(key))));
  }

  interfacesOf(key: KeyText): readonly EndpointId[] {
    return this.#bound.get(key) ?? [];
  }
}
