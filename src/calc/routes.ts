/**
 * Routes: one to each address of this node's endpoints, whether their Pod is known or not, and a blackhole for each block of this node, so that
 * packets to unassigned addresses are dropped here. The route of an endpoint takes precedence over a blackhole of the same prefix, and a pod's over that
 * of a WorkloadEndpoint with its address.
 */
import type { BlockRow } from "../model/convert/block.ts";
import type { Wire } from "../model/endpoint.ts";
import type { KeyText } from "../model/key.ts";
import { type Prefix, prefixOfAddr } from "../net/prefix.ts";
import type { Delta } from "../program/program.ts";
import { blackholeRoute, localRoute, type Route, type RouteId, routeIdOf } from "../program/route.ts";

/**
 * The prefix of a block that this node routes; undefined for other nodes' blocks and for blocks of one address, whose blackhole would be the
 * route of the address itself.
 */
export function blackholeOf(block: Pick<BlockRow, "node" | "size" | "prefix">, node: string): Prefix | undefined {
  return block.node === node && block.size > 1 ? block.prefix : undefined;
}

export class Routes {
  readonly #node: string;
  /** Prefixes by interface and by key of block, and the interfaces and blocks that want each prefix. */
  readonly #byInterface = new Map<string, readonly Prefix[]>();
  readonly #byBlock = new Map<KeyText, Prefix>();
  readonly #interfaces = new Map<Prefix, Set<string>>();
  /** Interfaces of machines. */
  readonly #machines = new Set<string>();
  readonly #blocks = new Map<Prefix, Set<KeyText>>();

  constructor(node: string) {
    this.#node = node;
  }

  step(wires: Delta<string, Wire>, blocks: Delta<KeyText, BlockRow>): Delta<RouteId, Route> {
    const touched = new Set<Prefix>();
    for (const [name, wire] of wires) {
      const prefixes = (wire?.addresses ?? []).map(prefixOfAddr);
      for (const prefix of this.#byInterface.get(name) ?? []) remove(this.#interfaces, prefix, name, touched);
      for (const prefix of prefixes) add(this.#interfaces, prefix, name, touched);
      if (wire?.workload.kind === "WorkloadEndpoint") this.#machines.add(name);
      else this.#machines.delete(name);
      if (wire === undefined) this.#byInterface.delete(name);
      else this.#byInterface.set(name, prefixes);
    }
    for (const [key, block] of blocks) {
      const before = this.#byBlock.get(key);
      if (before !== undefined) remove(this.#blocks, before, key, touched);
      this.#byBlock.delete(key);
      const prefix = block === undefined ? undefined : blackholeOf(block, this.#node);
      if (prefix === undefined) continue;
      add(this.#blocks, prefix, key, touched);
      this.#byBlock.set(key, prefix);
    }
    const delta = new Map<RouteId, Route | undefined>();
    for (const prefix of touched) delta.set(routeIdOf(blackholeRoute(prefix)), this.#routeTo(prefix));
    return delta;
  }

  #routeTo(prefix: Prefix): Route | undefined {
    const [first] = [...(this.#interfaces.get(prefix) ?? [])].sort(
      (a, b) => Number(this.#machines.has(a)) - Number(this.#machines.has(b)) || (a < b ? -1 : 1),
    );
    if (first !== undefined) return localRoute(prefix, first);
    return this.#blocks.has(prefix) ? blackholeRoute(prefix) : undefined;
  }
}

function add<T>(sets: Map<Prefix, Set<T>>, id: Prefix, value: T, touched: Set<Prefix>): void {
  sets.set(id, (sets.get(id) ?? new Set<T>()).add(value));
  touched.add(id);
}

function remove<T>(sets: Map<Prefix, Set<T>>, id: Prefix, value: T, touched: Set<Prefix>): void {
  const set = sets.get(id);
  set?.delete(value);
  if (set?.size === 0) sets.delete(id);
  touched.add(id);
}
