/** Node: a machine of the cluster. */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { arrayAt, fieldAt, isJsonObject, type JsonValue, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import { parsePrefix } from "../../../src/net/prefix.ts";
import type { ApiObject } from "../object.ts";
import { labelValueProblems, qualifiedNameProblems } from "../objects/metadata.ts";
import { builtIn } from "./built-in.ts";
import { AGE_COLUMN, column, NAME_COLUMN, wide } from "./columns.ts";

function statusText(node: ApiObject): string {
  const ready = arrayAt(fieldAt(node, "status", "conditions")).find((entry) => fieldAt(entry, "type") === "Ready");
  const text = ready === undefined ? "Unknown" : fieldAt(ready, "status") === "True" ? "Ready" : "NotReady";
  return fieldAt(node, "spec", "unschedulable") === true ? `${text},SchedulingDisabled` : text;
}

function roles(node: ApiObject): string {
  const prefix = "node-role.kubernetes.io/";
  const found = Object.entries(node.metadata.labels ?? {}).flatMap(([key, value]) =>
    key.startsWith(prefix) && key !== prefix
      ? [key.slice(prefix.length)]
      : key === "kubernetes.io/role" && value !== ""
        ? [value]
        : [],
  );
  return found.length === 0 ? "<none>" : found.sort().join(",");
}

function address(node: ApiObject, type: string): string {
  const found = arrayAt(fieldAt(node, "status", "addresses")).find(
    (entry) => isJsonObject(entry) && entry["type"] === type,
  );
  return stringAt(fieldAt(found, "address")) || "<none>";
}

function info(field: string, missing: string): (node: ApiObject) => JsonValue {
  return (node) => stringAt(fieldAt(node, "status", "nodeInfo", field)) || missing;
}

const EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/** Kubernetes names the taints so, as if they were part of the metadata. */
function validateTaints(node: ApiObject): FieldError[] {
  const seen = new Set<string>();
  return arrayAt(fieldAt(node, "spec", "taints")).flatMap((entry, index): FieldError[] => {
    const at = `metadata.taints[${index}]`;
    const [key, value, effect] = ["key", "value", "effect"].map((field) => stringAt(fieldAt(entry, field)));
    const errors = qualifiedNameProblems(key ?? "").map((detail): FieldError => ({
      field: `${at}.key`,
      reason: "Invalid",
      value: key,
      detail,
    }));
    errors.push(
      ...labelValueProblems(value ?? "").map((detail): FieldError => ({
        field: `${at}.value`,
        reason: "Invalid",
        value,
        detail,
      })),
    );
    if (effect === "") errors.push({ field: `${at}.effect`, reason: "Required", value: undefined, detail: "" });
    else if (!EFFECTS.includes(effect ?? ""))
      errors.push({
        field: `${at}.effect`,
        reason: "NotSupported",
        value: effect,
        detail: EFFECTS.map((name) => JSON.stringify(name)).join(", "),
      });
    if (errors.length === 0 && seen.has(`${key} ${effect}`))
      errors.push({ field: at, reason: "Duplicate", value: { key, effect }, detail: "" });
    seen.add(`${key} ${effect}`);
    return errors;
  });
}

function validateRanges(node: ApiObject): FieldError[] {
  return arrayAt(fieldAt(node, "spec", "podCIDRs")).flatMap((entry, index): FieldError[] =>
    parsePrefix(stringAt(entry)).ok
      ? []
      : [
          {
            field: `spec.podCIDRs[${index}]`,
            reason: "Invalid",
            value: entry,
            detail: "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
          },
        ],
  );
}

const INFO = [
  "architecture",
  "bootID",
  "containerRuntimeVersion",
  "kernelVersion",
  "kubeProxyVersion",
  "kubeletVersion",
  "machineID",
  "operatingSystem",
  "osImage",
  "systemUUID",
];

/** Go writes these parts of a status even when nothing is known. */
function fillStatus(node: ApiObject): void {
  const status = objectAt(node["status"]);
  status["daemonEndpoints"] ??= { kubeletEndpoint: { Port: 0 } };
  status["nodeInfo"] = { ...Object.fromEntries(INFO.map((field) => [field, ""])), ...objectAt(status["nodeInfo"]) };
  node["status"] = status;
}

export const NODE = builtIn({
  kind: "Node",
  plural: "nodes",
  shape: "core.v1.Node",
  namespaced: false,
  shortNames: ["no"],
  hasStatus: true,
  createsWithStatus: true,
  prepareCreate: fillStatus,
  validate: (node, _current, subresource) =>
    subresource === "status" ? [] : [...validateRanges(node), ...validateTaints(node)],
  selectableFields: { "spec.unschedulable": (node) => String(fieldAt(node, "spec", "unschedulable") === true) },
  columns: [
    NAME_COLUMN,
    column("Status", "Whether the node takes pods", statusText),
    column("Roles", "Roles by label", roles),
    AGE_COLUMN,
    column("Version", "Version of the kubelet", info("kubeletVersion", "")),
    wide("Internal-IP", "Address inside the cluster", (node) => address(node, "InternalIP")),
    wide("External-IP", "Address outside the cluster", (node) => address(node, "ExternalIP")),
    wide("OS-Image", "Operating system", info("osImage", "<unknown>")),
    wide("Kernel-Version", "Kernel", info("kernelVersion", "<unknown>")),
    wide("Container-Runtime", "Container runtime", info("containerRuntimeVersion", "<unknown>")),
  ],
});
