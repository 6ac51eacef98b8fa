/**
 * Expected: pods that are bound to this node and have no network yet. Each is an endpoint without addresses from the moment its Pod is
 * known, so that ADD finds its policies, their sets and its chains in the kernel, and adds its addresses only.
 *
 * Nothing opens before ADD: the interface does not exist, no route leads to it, and without addresses whatever came from it would be
 * dropped as forged. Not every pod is expected: one whose host end's usual name another has, and one that ADD came for before its Pod.
 */
import type { Graph } from "../calc/graph.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { CniRecord } from "../model/endpoint.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import { hostInterfaceName } from "../podnet/names.ts";

export class Expected {
  readonly #graph: Pick<Graph, "setCniRecord" | "removeCniRecord">;
  readonly #node: string;
  /** By interface: pods without a network, whether or not an attachment stands in the way. */
  readonly #waiting = new Map<string, CniRecord>();
  readonly #interfaces = new Map<KeyText, string>();
  /** Interfaces of what is attached, and the pods whose they are. */
  readonly #attached = new Map<string, KeyText>();

  constructor(graph: Pick<Graph, "setCniRecord" | "removeCniRecord">, node: string) {
    this.#graph = graph;
    this.#node = node;
  }

  observe(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      if (update.kind !== "Pod") continue;
      const endpoint = update.value?.endpoint;
      const isWaiting =
        endpoint?.ok === true &&
        endpoint.value.node === this.#node &&
        endpoint.value.state === "live" &&
        endpoint.value.addresses.length === 0;
      if (isWaiting) this.#expect(update.id, expectedRecord(update.key, endpoint.value.uid));
      else this.#forget(update.id);
    }
  }

  attach(record: CniRecord): void {
    const pod = formatKey(record.pod);
    const usual = this.#interfaces.get(pod);
    if (usual !== undefined && usual !== record.interface) this.#forget(pod);
    this.#attached.set(record.interface, pod);
    this.#graph.setCniRecord(record);
  }

  detach(name: string): void {
    const pod = this.#attached.get(name);
    this.#attached.delete(name);
    this.#settle(name);
    const usual = pod && this.#interfaces.get(pod);
    if (usual !== undefined && usual !== name) this.#settle(usual);
  }

  #expect(pod: KeyText, record: CniRecord): void {
    const name = record.interface;
    const holder = this.#waiting.get(name);
    if (holder !== undefined && formatKey(holder.pod) !== pod) return;
    this.#waiting.set(name, record);
    this.#interfaces.set(pod, name);
    this.#settle(name);
  }

  #forget(pod: KeyText): void {
    const name = this.#interfaces.get(pod);
    if (name === undefined) return;
    this.#interfaces.delete(pod);
    this.#waiting.delete(name);
    this.#settle(name);
  }

  /** An interface that is attached is as its attachment says. */
  #settle(name: string): void {
    if (this.#attached.has(name)) return;
    const record = this.#waiting.get(name);
    const isElsewhere = record !== undefined && [...this.#attached.values()].includes(formatKey(record.pod));
    if (record === undefined || isElsewhere) this.#graph.removeCniRecord(name);
    else this.#graph.setCniRecord(record);
  }
}

function expectedRecord(pod: CniRecord["pod"], uid: string | undefined): CniRecord {
  return {
    containerId: "",
    pod,
    uid,
    interface: hostInterfaceName(pod.namespace ?? "", pod.name),
    addresses: [],
    mac: "",
    netns: "",
    podInterface: "",
  };
}
