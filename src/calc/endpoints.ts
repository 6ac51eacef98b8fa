/**
 * Endpoints: joins labels and addresses with their parents, IPAM's blocks and the wires of this node, into one row for every endpoint of the cluster.
 *
 * A row is immutable: a changed endpoint is a new row, and an equal row is no change. For another node's pod only the row is kept; the source
 * of a row is kept only where a wire or a block can still change it.
 */
import { equal } from "../lib/equal.ts";
import type { BlockRow } from "../model/convert/block.ts";
import type { NamespaceRow } from "../model/convert/namespace.ts";
import type { ProfileLabels, ProfileRow } from "../model/convert/profile.ts";
import type { ServiceAccountRow } from "../model/convert/service-account.ts";
import type { EndpointRow, HostInterface, Wire } from "../model/endpoint.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Delta } from "../program/program.ts";
import { type Group, Groups } from "./groups.ts";
import type { Parent } from "./parents.ts";
import { Recorded } from "./recorded.ts";

export interface Row {
  readonly key: KeyText;
  readonly group: Group;
  /** Addresses that the endpoint contributes to sets: the only one as it is, as nearly every pod has one. */
  readonly addresses: Addr | readonly Addr[];
  /** Nets that a network set contributes; absent for what has addresses. */
  readonly nets?: readonly Prefix[];
  /** Of a host endpoint of this node; absent otherwise. */
  readonly host?: HostInterface;
  /** Of a host endpoint or WorkloadEndpoint of this node; absent otherwise. */
  readonly profiles?: readonly string[];
  /** Of an endpoint with interfaces on this node: the source prefixes that it asks for; absent: none. */
  readonly sources?: readonly Prefix[];
  /** Its interfaces on this node; empty for pods elsewhere and for those that are not wired, finished or gone. */
  readonly local: readonly Wire[];
}

/** The addresses of a row as a list. */
export function addressesOf({ addresses }: Row): readonly Addr[] {
  return typeof addresses === "string" ? [addresses] : addresses;
}

/** What an endpoint was and is; undefined: it did not exist before, or does not any more. */
export interface RowChange {
  readonly before: Row | undefined;
  readonly now: Row | undefined;
}

export interface EndpointsDelta {
  readonly rows: ReadonlyMap<KeyText, RowChange>;
  /** Parents whose labels changed, and the names of those labels. */
  readonly relabelled: ReadonlyMap<Parent, ReadonlySet<string>>;
}

export interface EndpointInputs {
  readonly endpoints: Delta<KeyText, EndpointRow>;
  readonly namespaces: Delta<KeyText, NamespaceRow>;
  readonly serviceAccounts: Delta<KeyText, ServiceAccountRow>;
  readonly profiles: Delta<KeyText, ProfileRow>;
  readonly blocks: Delta<KeyText, BlockRow>;
  /** By interface. */
  readonly wires: Delta<string, Wire>;
}

const NO_ADDRESSES: readonly Addr[] = [];
const NOT_HERE: readonly Wire[] = [];

/**
 * What an endpoint contributes, given the wires of this node that are its own, and whether a block records an address for it. Shared with the
 * from-scratch calculation.
 */
export function wiringOf(
  row: EndpointRow,
  wires: readonly Wire[],
  node: string,
  isRecorded: (addr: Addr) => boolean,
): { readonly addresses: readonly Addr[]; readonly local: readonly Wire[] } {
  const local =
    wires.length === 0
      ? NOT_HERE
      : wires.filter(({ uid }) => uid === undefined || row.uid === undefined || uid === row.uid);
  const isHere = row.state === "live" && row.node === node && local.length > 0;
  const wired = isHere ? [...new Set(local.flatMap((wire) => wire.addresses))] : [];
  if (wired.length > 0) return { addresses: wired, local };
  // A pod of this node without a network contributes what any pod without a record does.
  const addresses = row.addressesFrom === "annotation" ? row.addresses.filter(isRecorded) : row.addresses;
  return { addresses: addresses.length === 0 ? NO_ADDRESSES : addresses, local: isHere ? local : NOT_HERE };
}

export class Endpoints {
  readonly #node: string;
  readonly groups = new Groups();
  readonly #rows = new Map<KeyText, Row>();
  /** Sources of the rows that can change while their object does not: those of this node, and those that claim addresses by annotation. */
  readonly #sources = new Map<KeyText, EndpointRow>();
  readonly #wires = new Map<string, Wire>();
  /** By endpoint. */
  readonly #interfaces = new Map<KeyText, Set<string>>();
  readonly #recorded = new Recorded();
  /** Endpoints that claim the address by annotation. */
  readonly #claims = new Map<Addr, Set<KeyText>>();

  constructor(node: string) {
    this.#node = node;
  }

  step(inputs: EndpointInputs): EndpointsDelta {
    const relabelled = new Map<Parent, ReadonlySet<string>>();
    for (const [key, namespace] of inputs.namespaces)
      this.#relabel(key, NAMESPACE_PREFIX, namespace?.profile, relabelled);
    for (const [key, account] of inputs.serviceAccounts)
      this.#relabel(key, SERVICE_ACCOUNT_PREFIX, account?.profile, relabelled);
    for (const [key, profile] of inputs.profiles) this.#relabel(key, "", profile?.labels, relabelled);
    const touched = new Set<KeyText>();
    for (const [name, wire] of inputs.wires) this.#setWire(name, wire, touched);
    for (const addr of this.#recorded.step(inputs.blocks, this.#claims.size > 0))
      for (const key of this.#claims.get(addr) ?? []) touched.add(key);
    const rows = new Map<KeyText, RowChange>();
    const released: Group[] = [];
    for (const [key, source] of inputs.endpoints) {
      this.#keep(key, source);
      this.#setRow(key, source, rows, released);
    }
    for (const key of touched) {
      const source = this.#sources.get(key);
      if (source !== undefined && !inputs.endpoints.has(key)) this.#setRow(key, source, rows, released);
    }
    // Last, so that a group whose only row changed is the same group.
    for (const group of released) this.groups.release(group);
    for (const parent of relabelled.keys()) this.groups.parents.tidy(parent);
    return { rows, relabelled };
  }

  #setRow(key: KeyText, source: EndpointRow | undefined, into: Map<KeyText, RowChange>, released: Group[]): void {
    const before = this.#rows.get(key);
    const now = source === undefined ? undefined : this.#rowOf(key, source);
    if (now !== undefined && before !== undefined && isSame(before, now)) return void released.push(now.group);
    if (before !== undefined) released.push(before.group);
    if (now !== undefined) this.#rows.set(key, now);
    else if (before !== undefined) this.#rows.delete(key);
    if (before !== undefined || now !== undefined) into.set(key, { before, now });
  }

  /** Keeps the source if its row may have to be rebuilt. */
  #keep(key: KeyText, source: EndpointRow | undefined): void {
    const before = this.#sources.get(key);
    for (const addr of claimsOf(before)) {
      const claiming = this.#claims.get(addr);
      claiming?.delete(key);
      if (claiming?.size === 0) this.#claims.delete(addr);
    }
    if (source === undefined || (source.node !== this.#node && claimsOf(source).length === 0)) {
      if (before !== undefined) this.#sources.delete(key);
      return;
    }
    this.#sources.set(key, source);
    for (const addr of claimsOf(source)) this.#claims.set(addr, (this.#claims.get(addr) ?? new Set()).add(key));
  }

  #setWire(name: string, wire: Wire | undefined, touched: Set<KeyText>): void {
    const before = this.#wires.get(name);
    if (before !== undefined) {
      const key = formatKey(before.workload);
      const names = this.#interfaces.get(key);
      names?.delete(name);
      if (names?.size === 0) this.#interfaces.delete(key);
      touched.add(key);
      this.#wires.delete(name);
    }
    if (wire === undefined) return;
    const key = formatKey(wire.workload);
    this.#wires.set(name, wire);
    this.#interfaces.set(key, (this.#interfaces.get(key) ?? new Set()).add(name));
    touched.add(key);
  }

  #rowOf(key: KeyText, source: EndpointRow): Row {
    const interfaces = this.#interfaces.get(key);
    const wires =
      interfaces === undefined ? NOT_HERE : [...interfaces].sort().flatMap((name) => this.#wires.get(name) ?? []);
    const { addresses, local } = wiringOf(source, wires, this.#node, (addr) => this.#recorded.has(addr, key));
    const [only] = addresses;
    const row: Row = {
      key,
      group: this.groups.take(source),
      addresses: only !== undefined && addresses.length === 1 ? only : addresses,
      local,
    };
    const { nets, host, profiles, sources } = source;
    if (nets !== undefined) return { ...row, nets };
    // Of what is elsewhere, and of nearly every pod, nothing more.
    if (source.node !== this.#node) return row;
    const asked = local.length > 0 && sources !== undefined ? { ...row, sources } : row;
    if (profiles === undefined) return asked;
    return host === undefined ? { ...asked, profiles } : { ...asked, host, profiles };
  }

  #relabel(
    key: KeyText,
    prefix: Parent["prefix"],
    labels: ProfileLabels | undefined,
    into: Map<Parent, ReadonlySet<string>>,
  ): void {
    const parent = this.groups.parents.of(key, prefix);
    const changed = this.groups.parents.relabel(parent, labels);
    if (changed.size > 0) into.set(parent, changed);
    else this.groups.parents.tidy(parent);
  }
}

function isSame(a: Row, b: Row): boolean {
  return (
    a.group === b.group &&
    equal(a.addresses, b.addresses) &&
    equal(a.local, b.local) &&
    equal(a.nets, b.nets) &&
    equal(a.sources, b.sources) &&
    equal(a.profiles, b.profiles) &&
    equal(a.host, b.host)
  );
}

function claimsOf(row: EndpointRow | undefined): readonly Addr[] {
  return row?.addressesFrom === "annotation" ? row.addresses : NO_ADDRESSES;
}
