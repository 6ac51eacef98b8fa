/** Inventory: what `why` knows about a cluster, from the API or from manifests, and what it does not know. */
import type { ClusterResources } from "../semantics/cluster.ts";
import type { Resource } from "../model/resource.ts";
import type { Endpoints, Service } from "../verify/services.ts";
import type { Unknowns } from "../verify/unknowns.ts";
import type { PolicyObjects } from "./policy-objects.ts";

/** An error in the operator's input; the message is for the operator. */
export class InputError extends Error {
  override readonly name = "InputError";
  /** Earlier warnings, which may be the cause. */
  readonly notes: readonly string[];
  constructor(message: string, notes: readonly string[] = []) {
    super(message);
    this.notes = notes;
  }
}

export interface Warning {
  readonly text: string;
  /**
   * What it makes uncertain: every answer, those about addresses that are no pod's (`hosts`: nodes and what is outside), or none.
   */
  readonly doubt: "all" | "hosts" | "none";
  /** Only answers about pods of these namespaces; undefined for every namespace. */
  readonly namespaces?: readonly string[] | undefined;
}

/** A controller of pods: the pods of a cluster refer to theirs, and in manifests one pod represents its template. */
export interface Workload {
  /** `deployment`, in lower case. */
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

export interface Inventory {
  readonly resources: ClusterResources;
  readonly services: readonly Service[];
  readonly endpoints: readonly Endpoints[];
  /** Calico's objects; those that policy itself sees are among `resources`. */
  readonly objects: PolicyObjects;
  readonly unknowns: Unknowns;
  readonly warnings: readonly Warning[];
}

const CONTROLLERS = ["deployment", "statefulset", "daemonset", "replicaset", "replicationcontroller", "job", "cronjob"];
const SHORT = new Map(
  Object.entries({
    po: "pod",
    deploy: "deployment",
    sts: "statefulset",
    ds: "daemonset",
    rs: "replicaset",
    rc: "replicationcontroller",
    cj: "cronjob",
    svc: "service",
    wep: "workloadendpoint",
    weps: "workloadendpoint",
  }),
);

/** `deploy`, `deployments`, `deployment.apps`: the kind that kubectl takes them for, `pod`, `service` or a controller; else undefined. */
export function kindWord(text: string): string | undefined {
  const [word = ""] = text.toLowerCase().split(".");
  const singular = SHORT.get(word) ?? word.replace(/s$/, "");
  return ["pod", "service", "workloadendpoint", ...CONTROLLERS].includes(singular) ? singular : undefined;
}

/** Whether the pod was created by the controller, or represents its template. */
export function isOf(pod: Resource<"Pod">, { kind, namespace, name }: Workload): boolean {
  const { metadata } = pod;
  if ((metadata.namespace ?? "default") !== namespace) return false;
  if (metadata.name === `${kind}/${name}`) return true;
  return ownersOf(metadata).some((owner) => {
    if (owner.kind.toLowerCase() === kind && owner.name === name) return true;
    if (kind === "deployment")
      return owner.kind === "ReplicaSet" && owner.name === `${name}-${metadata.labels?.["pod-template-hash"] ?? ""}`;
    return (
      kind === "cronjob" &&
      owner.kind === "Job" &&
      owner.name.startsWith(`${name}-`) &&
      /^\d+$/.test(owner.name.slice(name.length + 1))
    );
  });
}

/** The owners that an object names. */
export function ownersOf(metadata: object): readonly { readonly kind: string; readonly name: string }[] {
  const owners: unknown = "ownerReferences" in metadata ? metadata.ownerReferences : undefined;
  return Array.isArray(owners)
    ? owners.flatMap((owner: { kind?: unknown; name?: unknown } | null) =>
        typeof owner?.kind === "string" && typeof owner.name === "string"
          ? [{ kind: owner.kind, name: owner.name }]
          : [],
      )
    : [];
}
