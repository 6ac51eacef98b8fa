/**
 * Routes: one to each address of this node's endpoints, known Pod or not, and a blackhole for each block of this node, so that what is sent to an
 * address nobody has is dropped here. The route of an endpoint beats the blackhole of the same prefix.
 */
import type { CniRecord } from "../model/endpoint.ts";
import type { KeyText } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import { fail, formatParseError, ok, type ParseError, type Result } from "../lib/result.ts";
import { bitsOf } from "../net/addr.ts";
import { parsePrefix, type Prefix, prefixFamily, prefixLength, prefixOfAddr } from "../net/prefix.ts";
import type { Delta, Route, RouteId } from "../program/program.ts";

/** The prefix of a block that this node routes; undefined for other nodes' blocks and for blocks of one address (calico-parity trap 69). */
export function blackholeOf(block: Resource<"IPAMBlock">, node: string): Result<Prefix | undefined, ParseError> {
  const { spec } = block;
  if (spec?.affinity !== `host:${node}` || spec.deleted === true) return ok(undefined);
  if (typeof spec.cidr !== "string")
    return fail({ what: "block", found: String(spec.cidr), wanted: "spec.cidr must be text" });
  const prefix = parsePrefix(spec.cidr);
  if (!prefix.ok) return prefix;
  return ok(prefixLength(prefix.value) === bitsOf(prefixFamily(prefix.value)) ? undefined : prefix.value);
}

export class Routes {
  readonly #node: string;
  /** Prefixes by who wants them, and who wants each prefix: interfaces, and blocks by key. */
  readonly #byInterface = new Map<string, readonly Prefix[]>();
  readonly #byBlock = new Map<KeyText, Prefix>();
  readonly #interfaces = new Map<RouteId, Set<string>>();
  readonly #blocks = new Map<RouteId, Set<KeyText>>();
  /** Blocks of this node that cannot be read, and why. */
  readonly problems = new Map<KeyText, string>();

  constructor(node: string) {
    this.#node = node;
  }

  step(records: Delta<string, CniRecord>, blocks: Delta<KeyText, Resource<"IPAMBlock">>): Delta<RouteId, Route> {
    const touched = new Set<RouteId>();
    for (const [name, record] of records) {
      const prefixes = (record?.addresses ?? []).map(prefixOfAddr);
      for (const prefix of this.#byInterface.get(name) ?? []) remove(this.#interfaces, prefix, name, touched);
      for (const prefix of prefixes) add(this.#interfaces, prefix, name, touched);
      if (record === undefined) this.#byInterface.delete(name);
      else this.#byInterface.set(name, prefixes);
    }
    for (const [key, block] of blocks) {
      const before = this.#byBlock.get(key);
      if (before !== undefined) remove(this.#blocks, before, key, touched);
      this.#byBlock.delete(key);
      const prefix = block === undefined ? ok(undefined) : blackholeOf(block, this.#node);
      if (prefix.ok) this.problems.delete(key);
      else this.problems.set(key, formatParseError(prefix.error));
      if (!prefix.ok || prefix.value === undefined) continue;
      add(this.#blocks, prefix.value, key, touched);
      this.#byBlock.set(key, prefix.value);
    }
    const delta = new Map<RouteId, Route | undefined>();
    for (const id of touched) delta.set(id, this.#routeOf(id));
    return delta;
  }

  #routeOf(id: RouteId): Route | undefined {
    const [first] = [...(this.#interfaces.get(id) ?? [])].sort();
    if (first !== undefined) return { type: "local", interface: first };
    return this.#blocks.has(id) ? { type: "blackhole" } : undefined;
  }
}

function add<T>(sets: Map<RouteId, Set<T>>, id: RouteId, value: T, touched: Set<RouteId>): void {
  sets.set(id, (sets.get(id) ?? new Set<T>()).add(value));
  touched.add(id);
}

function remove<T>(sets: Map<RouteId, Set<T>>, id: RouteId, value: T, touched: Set<RouteId>): void {
  const set = sets.get(id);
  set?.delete(value);
  if (set?.size === 0) sets.delete(id);
  touched.add(id);
}
