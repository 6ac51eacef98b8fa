/** Columns: the columns that most kinds have, and the parts from which others are made. */
import type { JsonValue } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import type { Column } from "../resource-type.ts";
import { formatAge } from "../table/age.ts";

type Cell = (object: ApiObject, nowMs: number) => JsonValue | undefined;

export const NAME_COLUMN: Column = {
  name: "Name",
  type: "string",
  format: "name",
  description: "Name of the object",
  priority: 0,
  cell: (object) => object.metadata.name,
};
export const AGE_COLUMN: Column = {
  name: "Age",
  type: "string",
  description: "Time since creation",
  priority: 0,
  cell: (object, nowMs) => formatAge(object.metadata.creationTimestamp, nowMs),
};

export function column(name: string, description: string, cell: Cell, type: Column["type"] = "string"): Column {
  return { name, type, description, priority: 0, cell };
}

/** A column that only `-o wide` shows. */
export function wide(name: string, description: string, cell: Cell, format = ""): Column {
  return { name, type: "string", format, description, priority: 1, cell };
}

/** `a=b,c in (d,e)`, or `<none>`: a label selector as kubectl prints it. */
export function formatLabelSelector(
  labels: Readonly<Record<string, JsonValue>>,
  expressions: readonly JsonValue[],
): string {
  const parts = Object.entries(labels)
    .map(([key, value]) => `${key}=${String(value)}`)
    .sort();
  for (const entry of expressions) {
    if (typeof entry !== "object" || entry === null || Array.isArray(entry)) continue;
    const values = Array.isArray(entry["values"]) ? `(${entry["values"].join(",")})` : "";
    switch (entry["operator"]) {
      case "In":
        parts.push(`${String(entry["key"])} in ${values}`);
        break;
      case "NotIn":
        parts.push(`${String(entry["key"])} notin ${values}`);
        break;
      case "Exists":
        parts.push(String(entry["key"]));
        break;
      default:
        parts.push(`!${String(entry["key"])}`);
    }
  }
  return parts.length === 0 ? "<none>" : parts.join(",");
}
