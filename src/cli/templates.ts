/**
 * Templates: pods that will be created from manifests: one pod represents each template of a Deployment and similar kinds, named
 * `deployment/NAME`, and a pod that does not run yet represents itself. Both have placeholders for addresses.
 */
import { formatParseError } from "../lib/result.ts";
import { endpointOfPod } from "../model/convert/pod.ts";
import { formatName } from "../model/key.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import {
  arrayAt,
  fieldAt,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../model/schema/json.ts";
import { placeholders, UNKNOWN_NODE } from "../verify/placeholders.ts";
import type { PolicyObjects } from "./policy-objects.ts";
import { conform, POD } from "./shapes.ts";
import { InputError, isOf, kindWord, ownersOf, type Warning, type Workload } from "./inventory.ts";

/** An object with a template, and where it is written. */
export interface Template extends Workload {
  readonly object: JsonObject;
  readonly where: string;
}

/** The template's path in the objects that have one. */
function templateOf(object: JsonObject): JsonObject | undefined {
  const template = fieldAt(
    object,
    ...(object["kind"] === "CronJob" ? ["spec", "jobTemplate", "spec", "template"] : ["spec", "template"]),
  );
  return isJsonObject(template) ? template : undefined;
}

const GROUPS = new Map([
  ["apps", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]],
  ["extensions", ["Deployment", "DaemonSet", "ReplicaSet"]],
  ["batch", ["Job", "CronJob"]],
  ["v1", ["ReplicationController"]],
]);

export function hasTemplate(apiVersion: string, kind: string): boolean {
  return GROUPS.get(apiVersion.split("/")[0] ?? "")?.includes(kind) === true;
}

/** The pods that represent the templates whose pods are not among `pods`. Throws InputError for a malformed one. */
export function podsOfTemplates(templates: readonly Template[], pods: readonly Resource<"Pod">[]): Resource<"Pod">[] {
  return templates.flatMap((template) => {
    // An owned object (the ReplicaSet of a Deployment) is represented by its owner.
    if (
      ownersOf(objectAt(template.object["metadata"])).some(({ kind }) => kindWord(kind) !== undefined) ||
      pods.some((pod) => isOf(pod, template))
    )
      return [];
    const written = templateOf(template.object);
    if (written === undefined)
      throw new InputError(
        `Cannot use ${template.where}: the ${stringAt(template.object["kind"])} has no template of pods`,
      );
    const job =
      template.kind === "job" ? { "job-name": template.name, "batch.kubernetes.io/job-name": template.name } : {};
    const labels = { ...objectAt(fieldAt(written, "metadata", "labels")), ...job };
    const metadata = {
      name: `${template.kind}/${template.name}`,
      namespace: template.namespace,
      labels,
      annotations: objectAt(fieldAt(written, "metadata", "annotations")),
    };
    const pod = conform({ apiVersion: "v1", kind: "Pod", metadata, spec: written["spec"] ?? null }, POD);
    if (!pod.ok)
      throw new InputError(
        `Cannot use ${template.where}: template of ${stringAt(template.object["kind"])}: ${pod.error}`,
      );
    return [pod.value as unknown as Resource<"Pod">];
  });
}

/** Gives pods that have no address yet placeholders, from the `first`-th on, and what the API would add: a service account. */
export function withStandIns(
  pods: readonly Resource<"Pod">[],
  whereOf: (pod: Resource<"Pod">) => string,
): Resource<"Pod">[] {
  return pods.map((pod, index) => {
    const model = endpointOfPod(pod);
    if (!model.ok) throw new InputError(`Cannot use ${whereOf(pod)}: ${formatParseError(model.error)}`);
    const { state, addresses, addressesFrom, serviceAccount } = model.value;
    const annotations = pod.metadata.annotations ?? {};
    const isTornDown =
      annotations["cni.projectcalico.org/podIPs"] === "" || annotations["cni.projectcalico.org/podIP"] === "";
    const spec = { ...pod.spec, serviceAccountName: serviceAccount ?? "default" } as NonNullable<
      Resource<"Pod">["spec"]
    >;
    // What an annotation claims counts only with a block of IPAM that records it (POL-1), and blocks are not read here.
    const isKnown =
      state === "live" ? addresses.length > 0 && addressesFrom === "status" : (pod.status?.podIPs ?? []).length > 0;
    if (state === "finished" || isTornDown || isKnown) return { ...pod, spec };
    const podIPs = placeholders(index).map((ip) => ({ ip }));
    return {
      ...pod,
      spec: { ...spec, nodeName: pod.spec?.nodeName || UNKNOWN_NODE },
      status: { ...pod.status, podIPs },
    };
  });
}

/** Labels that controllers add to their pods, with values that no manifest contains. */
const ADDED_LATER: Readonly<Record<string, readonly string[]>> = {
  deployment: ["pod-template-hash"],
  statefulset: ["controller-revision-hash", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"],
  daemonset: ["controller-revision-hash", "pod-template-generation"],
  job: ["controller-uid", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index"],
  cronjob: ["controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"],
};

/** Policies that match labels which controllers will add to pods of the templates with values that are not known yet. */
export function laterLabelWarnings(
  templates: readonly Template[],
  policies: readonly Resource<"KubernetesNetworkPolicy">[],
  objects: PolicyObjects,
): Warning[] {
  const added = new Set(templates.flatMap(({ kind }) => ADDED_LATER[kind] ?? []));
  if (added.size === 0) return [];
  const asking = (
    [
      "NetworkPolicy",
      "GlobalNetworkPolicy",
      "ClusterNetworkPolicy",
      "AdminNetworkPolicy",
      "BaselineAdminNetworkPolicy",
    ] as const
  ).flatMap((kind) =>
    objects.of(kind).flatMap((policy): Warning[] => {
      const text = JSON.stringify(policy.spec ?? {});
      const label = [...added].find((each) => text.includes(each));
      return label === undefined ? [] : [laterWarning(`${kind} ${formatName(keyOf(kind, policy))}`, label)];
    }),
  );
  const plain = policies.flatMap((policy) => {
    const spec = objectAt((policy as unknown as JsonObject)["spec"]);
    const rules = [...arrayAt(spec["ingress"]), ...arrayAt(spec["egress"])].map(objectAt);
    const peers = rules.flatMap((rule) => [...arrayAt(rule["from"]), ...arrayAt(rule["to"])]);
    const label = [spec["podSelector"], ...peers.map((peer) => objectAt(peer)["podSelector"])]
      .flatMap(keysOf)
      .find((key) => added.has(key));
    if (label === undefined) return [];
    const { namespace, name } = policy.metadata;
    return [laterWarning(`NetworkPolicy ${namespace}/${name}`, label)];
  });
  return [...plain, ...asking];
}

function laterWarning(policy: string, label: string): Warning {
  return {
    text: `${policy} asks for the label ${label}, whose value on pods that do not run yet is not known`,
    doubt: "all",
  };
}

function keysOf(selector: JsonValue | undefined): string[] {
  const { matchLabels, matchExpressions } = objectAt(selector);
  return [
    ...Object.keys(objectAt(matchLabels)),
    ...arrayAt(matchExpressions).map((expression) => stringAt(objectAt(expression)["key"])),
  ];
}
