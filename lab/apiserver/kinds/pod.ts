/** Pod: defaults and rules of `spec`, columns of its state. Source: pkg/apis/core/validation, pkg/printers/internalversion. */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import {
  arrayAt,
  fieldAt,
  isJsonObject,
  jsonEquals,
  type JsonObject,
  objectAt,
  stringAt,
} from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import { builtIn } from "./built-in.ts";
import { podColumns } from "./pod-columns.ts";
import { addressProblems, validateContainers, validateSpec, validateVolumes } from "./pod-rules.ts";
import { validateUpdate } from "./pod-updates.ts";
import { canonicalQuantity } from "./quantity.ts";

function imageTag(image: string): string {
  const last = image.slice(image.lastIndexOf("/") + 1);
  if (last.includes("@")) return "";
  return last.includes(":") ? last.slice(last.lastIndexOf(":") + 1) : "latest";
}

function prepareCreate(pod: ApiObject): void {
  const spec = objectAt(pod["spec"]);
  pod["spec"] = spec;
  for (const list of ["containers", "initContainers"]) {
    for (const container of arrayAt(spec[list]))
      if (isJsonObject(container)) completeContainer(container, spec["hostNetwork"] === true);
  }
  for (const volume of arrayAt(spec["volumes"]))
    if (isJsonObject(volume) && Object.keys(volume).every((field) => field === "name")) volume["emptyDir"] = {};
  if (typeof spec["terminationGracePeriodSeconds"] === "number" && spec["terminationGracePeriodSeconds"] < 0)
    spec["terminationGracePeriodSeconds"] = 1;
  const account = stringAt(spec["serviceAccountName"]) || stringAt(spec["serviceAccount"]) || "default";
  spec["serviceAccountName"] = account;
  spec["serviceAccount"] = account;
  if (spec["priority"] === undefined) spec["priority"] = 0;
  addDefaultTolerations(spec);
  pod["status"] = { phase: "Pending", qosClass: qosClass(spec) };
}

function completeContainer(container: JsonObject, hostNetwork: boolean): void {
  container["imagePullPolicy"] ??= imageTag(stringAt(container["image"])) === "latest" ? "Always" : "IfNotPresent";
  if (hostNetwork)
    for (const port of arrayAt(container["ports"]))
      if (isJsonObject(port)) port["hostPort"] ??= port["containerPort"] ?? 0;
  const resources = objectAt(container["resources"]);
  for (const field of ["limits", "requests"]) {
    const quantities = objectAt(resources[field]);
    for (const [name, quantity] of Object.entries(quantities))
      quantities[name] = canonicalQuantity(quantity) ?? quantity;
  }
  const limits = objectAt(resources["limits"]);
  if (Object.keys(limits).length > 0) resources["requests"] = { ...limits, ...objectAt(resources["requests"]) };
}

/** Those that the admission plugin DefaultTolerationSeconds adds. */
function addDefaultTolerations(spec: JsonObject): void {
  const tolerations = [...arrayAt(spec["tolerations"])];
  for (const key of ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]) {
    const covered = tolerations.some(
      (entry) =>
        isJsonObject(entry) &&
        (entry["key"] === key || stringAt(entry["key"]) === "") &&
        (entry["effect"] === "NoExecute" || stringAt(entry["effect"]) === ""),
    );
    if (!covered) tolerations.push({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 });
  }
  spec["tolerations"] = tolerations;
}

function qosClass(spec: JsonObject): string {
  const containers = [...arrayAt(spec["containers"]), ...arrayAt(spec["initContainers"])];
  const requests = containers.map((entry) => objectAt(fieldAt(entry, "resources", "requests")));
  const limits = containers.map((entry) => objectAt(fieldAt(entry, "resources", "limits")));
  const guaranteed = limits.every((limit, index) =>
    ["cpu", "memory"].every(
      (name) =>
        limit[name] !== undefined &&
        (requests[index]?.[name] === undefined || jsonEquals(requests[index]?.[name], limit[name])),
    ),
  );
  if (containers.length > 0 && guaranteed) return "Guaranteed";
  return [...requests, ...limits].some((entry) => entry["cpu"] !== undefined || entry["memory"] !== undefined)
    ? "Burstable"
    : "BestEffort";
}

function validate(pod: ApiObject, current: ApiObject | undefined, subresource: string): FieldError[] {
  if (subresource === "status")
    return arrayAt(fieldAt(pod, "status", "podIPs")).flatMap((entry, index) =>
      addressProblems(`status.podIPs[${index}]`, stringAt(fieldAt(entry, "ip"))),
    );
  const spec = objectAt(pod["spec"]);
  const errors = [...validateVolumes(spec), ...validateContainers(spec), ...validateSpec(spec)];
  if (current === undefined) return errors;
  return [...errors, ...validateUpdate(spec, objectAt(current["spec"]), subresource === "binding")];
}

export const POD = builtIn({
  kind: "Pod",
  plural: "pods",
  shape: "core.v1.Pod",
  namespaced: true,
  shortNames: ["po"],
  categories: ["all"],
  hasStatus: true,
  hasGeneration: true,
  answersDeleted: true,
  columns: podColumns,
  lastingStatus: ["qosClass"],
  subresources: { binding: { kind: "Binding", verbs: ["create"] } },
  selectableFields: {
    "spec.nodeName": (pod) => stringAt(fieldAt(pod, "spec", "nodeName")),
    "spec.restartPolicy": (pod) => stringAt(fieldAt(pod, "spec", "restartPolicy")),
    "spec.schedulerName": (pod) => stringAt(fieldAt(pod, "spec", "schedulerName")),
    "spec.serviceAccountName": (pod) => stringAt(fieldAt(pod, "spec", "serviceAccountName")),
    "spec.hostNetwork": (pod) => String(fieldAt(pod, "spec", "hostNetwork") === true),
    "status.phase": (pod) => stringAt(fieldAt(pod, "status", "phase")),
    "status.podIP": (pod) => stringAt(fieldAt(pod, "status", "podIP")),
    "status.nominatedNodeName": (pod) => stringAt(fieldAt(pod, "status", "nominatedNodeName")),
  },
  prepareCreate,
  prepareUpdate: (next, current) => {
    const [spec, before] = [objectAt(next["spec"]), objectAt(current["spec"])];
    if (spec["priority"] === undefined && before["priority"] !== undefined) spec["priority"] = before["priority"];
    if (stringAt(spec["serviceAccount"]) === "" && spec["serviceAccountName"] !== undefined)
      spec["serviceAccount"] = spec["serviceAccountName"];
    for (const list of ["containers", "initContainers"]) {
      arrayAt(spec[list]).forEach((container, index) => {
        const policy = fieldAt(arrayAt(before[list])[index], "imagePullPolicy");
        if (isJsonObject(container) && policy !== undefined) container["imagePullPolicy"] ??= policy;
      });
    }
  },
  validate,
  forbid: (pod, context) => {
    const account = stringAt(fieldAt(pod, "spec", "serviceAccountName"));
    const { namespace } = pod.metadata;
    if (context.exists("serviceaccounts", namespace, account)) return undefined;
    return `error looking up service account ${namespace}/${account}: serviceaccount ${JSON.stringify(account)} not found`;
  },
});
