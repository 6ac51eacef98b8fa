/** Event: something that happened to an object; the lifecycle removes it an hour after it was last seen. */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { fieldAt, stringAt } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import { formatAge } from "../table/age.ts";
import { builtIn } from "./built-in.ts";
import { column, wide } from "./columns.ts";

const INVOLVED = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"] as const;

/** Time at which the event was last seen; undefined when it says none. */
export function lastSeen(event: ApiObject): unknown {
  return fieldAt(event, "series", "lastObservedTime") ?? event["lastTimestamp"] ?? event["eventTime"];
}

function objectText(event: ApiObject): string {
  return `${stringAt(fieldAt(event, "involvedObject", "kind")).toLowerCase()}/${stringAt(fieldAt(event, "involvedObject", "name"))}`;
}

function sourceText(event: ApiObject): string {
  const parts = [
    stringAt(fieldAt(event, "source", "component")) || stringAt(event["reportingComponent"]),
    stringAt(fieldAt(event, "source", "host")) || stringAt(event["reportingInstance"]),
  ];
  return parts.filter((part) => part !== "").join(", ");
}

/** The event must be in the namespace of its object (`default` for objects without one). */
function validate(event: ApiObject): FieldError[] {
  const namespace = stringAt(fieldAt(event, "involvedObject", "namespace"));
  const wanted = namespace === "" ? ["default", "kube-system"] : [namespace];
  if (wanted.includes(event.metadata.namespace ?? "")) return [];
  return [
    {
      field: "involvedObject.namespace",
      reason: "Invalid",
      value: namespace,
      detail: "does not match event.namespace",
    },
  ];
}

export const EVENT = builtIn({
  kind: "Event",
  plural: "events",
  shape: "core.v1.Event",
  namespaced: true,
  shortNames: ["ev"],
  columns: [
    column("Last Seen", "Time since it was last seen", (event, nowMs) => formatAge(lastSeen(event), nowMs)),
    column("Type", "Normal or Warning", (event) => stringAt(event["type"])),
    column("Reason", "Short word for why", (event) => stringAt(event["reason"])),
    column("Object", "The object it is about", objectText),
    wide("Subobject", "Part of the object", (event) => stringAt(fieldAt(event, "involvedObject", "fieldPath"))),
    wide("Source", "Who reported it", sourceText),
    column("Message", "What happened", (event) => stringAt(event["message"]).trim()),
    wide("First Seen", "Time since it was first seen", (event, nowMs) =>
      formatAge(event["firstTimestamp"] ?? event["eventTime"], nowMs),
    ),
    wide("Count", "How often it happened", (event) => (typeof event["count"] === "number" ? event["count"] : 1)),
    wide("Name", "Name of the object", (event) => event.metadata.name, "name"),
  ],
  selectableFields: {
    ...Object.fromEntries(
      INVOLVED.map((field) => [
        `involvedObject.${field}`,
        (event: ApiObject) => stringAt(fieldAt(event, "involvedObject", field)),
      ]),
    ),
    reason: (event) => stringAt(event["reason"]),
    reportingComponent: (event) => stringAt(event["reportingComponent"]),
    source: (event) => stringAt(fieldAt(event, "source", "component")) || stringAt(event["reportingComponent"]),
    type: (event) => stringAt(event["type"]),
  },
  validate,
});
