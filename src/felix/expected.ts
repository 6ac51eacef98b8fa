/**
 * Expected: pods that are bound to this node and have no network, because ADD has not come yet or DEL has. Each is an endpoint without
 * addresses, so that ADD finds its policies, their sets and its chains in the kernel and adds its addresses only, and DEL only takes these
 * away: the rest goes when the Pod has finished or is gone.
 *
 * Nothing is open meanwhile: no route leads to the interface, if there is one, and without addresses whatever came from it would be dropped
 * as forged. A pod whose host end's usual name another has is not expected.
 */
import type { Graph } from "../calc/graph.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { CniRecord } from "../model/endpoint.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import { hostInterfaceName } from "../podnet/names.ts";

export class Expected {
  readonly #graph: Pick<Graph, "setCniRecord" | "removeCniRecord">;
  readonly #node: string;
  /** Pods of this node that have, had or will get a network, as endpoints without addresses. */
  readonly #locals = new Map<KeyText, CniRecord>();
  /** Those of them that came first to a usual name. */
  readonly #holders = new Map<string, KeyText>();
  /** By interface: the pods that are attached. */
  readonly #attached = new Map<string, KeyText>();

  constructor(graph: Pick<Graph, "setCniRecord" | "removeCniRecord">, node: string) {
    this.#graph = graph;
    this.#node = node;
  }

  observe(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      if (update.kind !== "Pod") continue;
      const endpoint = update.value?.endpoint;
      const row = endpoint?.ok === true ? endpoint.value : undefined;
      if (row?.node === this.#node && row.state === "live") this.#see(update.id, unwired(update.key, row.uid));
      else this.#forget(update.id);
    }
  }

  attach(record: CniRecord): void {
    const pod = formatKey(record.pod);
    this.#attached.set(record.interface, pod);
    this.#graph.setCniRecord(record);
    this.#settleUsual(pod);
  }

  detach(name: string): void {
    const pod = this.#attached.get(name);
    this.#attached.delete(name);
    this.#settle(name);
    if (pod !== undefined) this.#settleUsual(pod);
  }

  #settleUsual(pod: KeyText): void {
    const name = this.#locals.get(pod)?.interface;
    if (name !== undefined) this.#settle(name);
  }

  #see(pod: KeyText, record: CniRecord): void {
    this.#locals.set(pod, record);
    if (!this.#holders.has(record.interface)) this.#holders.set(record.interface, pod);
    this.#settle(record.interface);
  }

  #forget(pod: KeyText): void {
    const name = this.#locals.get(pod)?.interface;
    this.#locals.delete(pod);
    if (name === undefined || this.#holders.get(name) !== pod) return;
    this.#holders.delete(name);
    this.#settle(name);
  }

  /** An interface that is attached is as its attachment says. */
  #settle(name: string): void {
    if (this.#attached.has(name)) return;
    const pod = this.#holders.get(name);
    const isElsewhere = pod !== undefined && [...this.#attached.values()].includes(pod);
    const record = pod === undefined || isElsewhere ? undefined : this.#locals.get(pod);
    if (record !== undefined) this.#graph.setCniRecord(record);
    else this.#graph.removeCniRecord(name);
  }
}

/** A pod of this node without a network. */
function unwired(pod: CniRecord["pod"], uid: string | undefined): CniRecord {
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
