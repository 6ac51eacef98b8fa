/** Binding: a scheduler gives a Pod its node. Source: pkg/registry/core/pod/storage, assignPod. */
import { arrayAt, fieldAt, isJsonObject, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import { badRequest, conflict, invalid, notFound } from "../errors.ts";
import { type Context, timestamp } from "../objects/context.ts";
import type { Place } from "../objects/write.ts";
import type { Body } from "./body.ts";
import type { WriteOptions } from "./request.ts";
import type { Answer } from "./respond.ts";

const BINDING = { group: "", plural: "bindings", kind: "Binding" };

export function bindPod(context: Context, place: Place, name: string, body: Body, options: WriteOptions): Answer {
  if (!isJsonObject(body.value)) throw badRequest("the object provided is unrecognized (must be of type Binding)");
  const given = stringAt(fieldAt(body.value, "metadata", "name"));
  if (given !== "" && given !== name)
    throw badRequest(`the name of the object (${given}) does not match the name on the URL (${name})`);
  const node = stringAt(fieldAt(body.value, "target", "name"));
  const kind = stringAt(fieldAt(body.value, "target", "kind"));
  if (node === "")
    throw invalid(BINDING, name, [{ field: "target.name", reason: "Required", value: undefined, detail: "" }]);
  if (kind !== "" && kind !== "Node")
    throw invalid(BINDING, name, [{ field: "target.kind", reason: "NotSupported", value: kind, detail: '"Node", ""' }]);
  const current = context.storage.get("pods", place.namespace, name)?.object;
  if (current === undefined) throw notFound(place.type, name);
  const { uid, deletionTimestamp } = current.metadata;
  const wanted = stringAt(fieldAt(body.value, "metadata", "uid"));
  if (wanted !== "" && wanted !== uid)
    throw conflict(
      place.type,
      name,
      `the UID in the precondition (${wanted}) does not match the UID in record (${uid})`,
    );
  if (deletionTimestamp !== undefined)
    throw conflict(
      { ...place.type, plural: "pods/binding" },
      name,
      `pod ${name} is being deleted, cannot be assigned to a host`,
    );
  const assigned = stringAt(fieldAt(current, "spec", "nodeName"));
  if (assigned !== "")
    throw conflict(
      { ...place.type, plural: "pods/binding" },
      name,
      `pod ${name} is already assigned to node ${JSON.stringify(assigned)}`,
    );
  if (!options.dryRun) {
    const next = structuredClone(current);
    const others = arrayAt(fieldAt(next, "status", "conditions")).filter(
      (entry) => fieldAt(entry, "type") !== "PodScheduled",
    );
    next["spec"] = { ...objectAt(next["spec"]), nodeName: node };
    next["status"] = {
      ...objectAt(next["status"]),
      conditions: [
        ...others,
        { type: "PodScheduled", status: "True", lastProbeTime: null, lastTransitionTime: timestamp(context.nowMs()) },
      ],
    };
    context.storage.write("pods", next);
  }
  return { status: 201, body: { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 } };
}
