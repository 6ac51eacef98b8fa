/** scheduler: binds Pods without a node to the ready node with the fewest pods; pods of another scheduler are left alone. */
import type { Resource } from "../../src/model/resource.ts";
import { ApiError, type LabApi } from "./api.ts";

type Pod = Resource<"Pod">;
type Node = Resource<"Node">;

export class Scheduler {
  readonly #api: Pick<LabApi, "request">;
  /** By uid of the Pod, the node that it was bound to, until the watch shows the binding, so that it counts for its node at once. */
  readonly #given = new Map<string, string>();

  constructor(api: Pick<LabApi, "request">) {
    this.#api = api;
  }

  step(pods: readonly Pod[], nodes: readonly Node[]): void {
    const load = new Map<string, number>();
    for (const node of nodes)
      if (isReady(node) && node.spec?.unschedulable !== true) load.set(node.metadata.name ?? "", 0);
    if (load.size === 0) return;
    const unbound = new Set(pods.filter((pod) => pod.spec?.nodeName === undefined).map(uidOf));
    for (const uid of this.#given.keys()) if (!unbound.has(uid)) this.#given.delete(uid);
    for (const pod of pods) {
      const node = pod.spec?.nodeName ?? this.#given.get(uidOf(pod));
      if (node !== undefined && load.has(node)) load.set(node, (load.get(node) ?? 0) + 1);
    }
    for (const pod of pods) {
      if (!wants(pod) || this.#given.has(uidOf(pod))) continue;
      const [node] = [...load].sort((a, b) => a[1] - b[1] || a[0].localeCompare(b[0]))[0] ?? [];
      if (node === undefined) return;
      load.set(node, (load.get(node) ?? 0) + 1);
      this.#given.set(uidOf(pod), node);
      void this.#bind(pod, node);
    }
  }

  /** A refused binding is decided again. */
  async #bind(pod: Pod, node: string): Promise<void> {
    const { name, namespace } = pod.metadata;
    const binding = {
      apiVersion: "v1",
      kind: "Binding",
      metadata: { name, namespace },
      target: { apiVersion: "v1", kind: "Node", name: node },
    };
    try {
      await this.#api.request("POST", `/api/v1/namespaces/${namespace}/pods/${name}/binding`, binding);
    } catch (error) {
      this.#given.delete(uidOf(pod));
      if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 409))
        console.error(`cannot bind ${namespace}/${name}: ${String(error)}`);
    }
  }
}

function uidOf(pod: Pod): string {
  return pod.metadata.uid ?? "";
}

function wants(pod: Pod): boolean {
  const scheduler = pod.spec?.schedulerName ?? "default-scheduler";
  return (
    pod.spec?.nodeName === undefined &&
    scheduler === "default-scheduler" &&
    pod.metadata.deletionTimestamp === undefined
  );
}

function isReady(node: Node): boolean {
  return (
    node.status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True") ?? false
  );
}
