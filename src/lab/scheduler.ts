/** scheduler: binds Pods without a node to the ready node with the fewest pods; pods of another scheduler are left alone. */
import type { Resource } from "../model/resource.ts";
import { ApiError, type LabApi } from "./api.ts";

type Pod = Resource<"Pod">;
type Node = Resource<"Node">;

export class Scheduler {
  readonly #api: LabApi;
  readonly #binding = new Set<string>();

  constructor(api: LabApi) {
    this.#api = api;
  }

  step(pods: readonly Pod[], nodes: readonly Node[]): void {
    const load = new Map<string, number>();
    for (const node of nodes) if (isReady(node) && node.spec?.unschedulable !== true) load.set(node.metadata.name ?? "", 0);
    if (load.size === 0) return;
    for (const pod of pods) {
      const node = pod.spec?.nodeName;
      if (node !== undefined && load.has(node)) load.set(node, (load.get(node) ?? 0) + 1);
    }
    for (const pod of pods) {
      const uid = pod.metadata.uid ?? "";
      if (!wants(pod) || this.#binding.has(uid)) continue;
      const [node] = [...load].sort((a, b) => a[1] - b[1] || a[0].localeCompare(b[0]))[0] ?? [];
      if (node === undefined) return;
      load.set(node, (load.get(node) ?? 0) + 1);
      this.#binding.add(uid);
      void this.#bind(pod, node).finally(() => this.#binding.delete(uid));
    }
  }

  async #bind(pod: Pod, node: string): Promise<void> {
    const { name, namespace } = pod.metadata;
    const binding = { apiVersion: "v1", kind: "Binding", metadata: { name, namespace }, target: { apiVersion: "v1", kind: "Node", name: node } };
    try {
      await this.#api.request("POST", `/api/v1/namespaces/${namespace}/pods/${name}/binding`, binding);
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 409)) console.error(`cannot bind ${namespace}/${name}: ${String(error)}`);
    }
  }
}

function wants(pod: Pod): boolean {
  const scheduler = pod.spec?.schedulerName ?? "default-scheduler";
  return pod.spec?.nodeName === undefined && scheduler === "default-scheduler" && pod.metadata.deletionTimestamp === undefined;
}

function isReady(node: Node): boolean {
  return node.status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True") ?? false;
}
