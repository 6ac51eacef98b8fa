/** Test bench: a memory store with pools and nodes, for the tests of IPAM; imported by tests only. */
import { chance } from "../lib/chance.ts";
import { MemoryStore } from "../datastore/memory.ts";
import type { Store } from "../datastore/store.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { IPPoolSpec } from "../model/kinds/ip-pool.ts";
import { IPAM_CONFIGURATION, type IPAMConfigurationSpec } from "../model/kinds/ipam-settings.ts";
import { handleOf } from "../model/kinds/reserved.ts";
import { type Addr, addrFromInteger, familyOf } from "../net/addr.ts";
import { parsePrefix, prefixRange } from "../net/prefix.ts";
import { IpamError } from "./errors.ts";
import { Ipam } from "./ipam.ts";
import type { KnownBlocks } from "./known-blocks.ts";

export class Bench {
  readonly clock = new VirtualClock();
  readonly store = new MemoryStore({ wallMs: () => this.clock.wallMs() });
  readonly reports: string[] = [];
  readonly fraction: () => number;

  constructor(seed = 1) {
    this.fraction = chance(seed);
  }

  async pool(name: string, spec: IPPoolSpec): Promise<void> {
    await this.store.create("IPPool", { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec });
  }

  async changePool(name: string, change: Partial<IPPoolSpec>): Promise<void> {
    const pool = await this.store.get({ kind: "IPPool", namespace: undefined, name });
    if (pool === undefined) throw new Error(`no pool ${name}`);
    await this.store.update("IPPool", { ...pool, spec: { ...pool.spec, ...change } });
  }

  async configure(spec: IPAMConfigurationSpec): Promise<void> {
    const key = IPAM_CONFIGURATION;
    const found = await this.store.get(key);
    if (found === undefined)
      await this.store.create("IPAMConfiguration", {
        apiVersion: "projectcalico.org/v3",
        kind: "IPAMConfiguration",
        metadata: { name: key.name },
        spec,
      });
    else await this.store.update("IPAMConfiguration", { ...found, spec });
  }

  async reserve(name: string, ...reservedCIDRs: string[]): Promise<void> {
    await this.store.create("IPReservation", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPReservation",
      metadata: { name },
      spec: { reservedCIDRs },
    });
  }

  async node(name: string, labels: Record<string, string> = {}): Promise<void> {
    await this.store.create("Node", { apiVersion: "v1", kind: "Node", metadata: { name, labels } });
  }

  ipam(node: string, options: { store?: Store; knownBlocks?: KnownBlocks } = {}): Ipam {
    const random = { fraction: this.fraction, uuid: () => "" };
    const report = (message: string, fields: Readonly<Record<string, unknown>>): void =>
      void this.reports.push(`${message} ${JSON.stringify(fields)}`);
    return new Ipam({ store: this.store, node, clock: this.clock, random, report, ...options });
  }

  /** Address to the handle that its block records, over all blocks; fails when a block contradicts itself. */
  async holders(): Promise<Map<Addr, string>> {
    const holders = new Map<Addr, string>();
    for (const { spec } of (await this.store.list("IPAMBlock")).items) {
      const prefix = parsePrefix(spec.cidr);
      if (!prefix.ok) throw new Error(spec.cidr);
      const range = prefixRange(prefix.value);
      const free = spec.allocations.flatMap((index, ordinal) => (index === null ? [ordinal] : []));
      if (JSON.stringify([...spec.unallocated].sort((a, b) => a - b)) !== JSON.stringify(free))
        throw new Error(`${spec.cidr}: unallocated is not what allocations leave free`);
      spec.allocations.forEach((index, ordinal) => {
        if (index === null) return;
        const owner = spec.attributes[index];
        if (owner?.handle_id === undefined) throw new Error(`${spec.cidr}: ordinal ${ordinal} has no owner`);
        if (spec.sequenceNumberForAllocation[String(ordinal)] === undefined)
          throw new Error(`${spec.cidr}: ordinal ${ordinal} has no sequence number`);
        holders.set(addrFromInteger(range.family, range.first + BigInt(ordinal)), handleOf(owner) ?? "");
      });
    }
    return holders;
  }

  async names(kind: "IPAMBlock" | "BlockAffinity" | "IPAMHandle"): Promise<string[]> {
    return (await this.store.list(kind)).items.map((item) => item.metadata.name);
  }

  async affinities(): Promise<string[]> {
    return (await this.store.list("BlockAffinity")).items.map(({ spec }) => `${spec.node} ${spec.cidr} ${spec.state}`);
  }
}

export function only(addresses: readonly Addr[], family: 4 | 6): Addr[] {
  return addresses.filter((addr) => familyOf(addr) === family);
}

/** Two nodes, and a pool of each family. */
export async function dual(): Promise<Bench> {
  const bench = new Bench();
  await bench.pool("v4", { cidr: "10.0.0.0/16" });
  await bench.pool("v6", { cidr: "fd00:1::/48" });
  await bench.node("n1", { zone: "a" });
  await bench.node("n2", { zone: "b" });
  return bench;
}

/** Why the operation is refused. */
export async function reasonOf(operation: Promise<unknown>): Promise<string> {
  const error = await operation.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof IpamError)) throw error ?? new Error("it succeeded");
  return `${error.reason}: ${error.message}`;
}
