/** Namespace: created Active, held by its `kubernetes` finalizer until its content is gone. */
import { arrayAt, fieldAt, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import { builtIn } from "./built-in.ts";
import { column } from "./columns.ts";

export const NAMESPACE = builtIn({
  kind: "Namespace",
  plural: "namespaces",
  shape: "core.v1.Namespace",
  namespaced: false,
  shortNames: ["ns"],
  nameRule: "label",
  hasStatus: true,
  lastsInCollections: true,
  subresources: { finalize: { kind: "Namespace", verbs: ["update"] } },
  middle: [column("Status", "Active or Terminating", (object) => stringAt(fieldAt(object, "status", "phase")))],
  selectableFields: { "status.phase": (object) => stringAt(fieldAt(object, "status", "phase")) },
  prepareCreate: (object) => {
    object["spec"] = {
      ...objectAt(object["spec"]),
      finalizers: [
        ...arrayAt(fieldAt(object, "spec", "finalizers")).filter((name) => name !== "kubernetes"),
        "kubernetes",
      ],
    };
    object["status"] = { phase: "Active" };
    object.metadata.labels = { ...object.metadata.labels, "kubernetes.io/metadata.name": object.metadata.name };
  },
  prepareUpdate: (next, current) => {
    next["spec"] = current["spec"] ?? {};
    next.metadata.labels = { ...next.metadata.labels, "kubernetes.io/metadata.name": next.metadata.name };
  },
});
