/** Node: a machine of the cluster. */
import { arrayAt, fieldAt, isJsonObject, type JsonValue, stringAt } from "../../model/schema/json.ts";
import type { ApiObject } from "../object.ts";
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
    key.startsWith(prefix) && key !== prefix ? [key.slice(prefix.length)] : key === "kubernetes.io/role" && value !== "" ? [value] : [],
  );
  return found.length === 0 ? "<none>" : found.sort().join(",");
}

function address(node: ApiObject, type: string): string {
  const found = arrayAt(fieldAt(node, "status", "addresses")).find((entry) => isJsonObject(entry) && entry["type"] === type);
  return stringAt(fieldAt(found, "address")) || "<none>";
}

function info(field: string, missing: string): (node: ApiObject) => JsonValue {
  return (node) => stringAt(fieldAt(node, "status", "nodeInfo", field)) || missing;
}

export const NODE = builtIn({
  kind: "Node",
  plural: "nodes",
  shape: "core.v1.Node",
  namespaced: false,
  shortNames: ["no"],
  hasStatus: true,
  createsWithStatus: true,
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
