/**
 * StrategicMerge: Kubernetes' strategic merge patch: like a merge patch, but lists with a merge key merge item by item.
 *
 * The schema says which lists merge and by which key (`x-kubernetes-patch-strategy`, `-merge-key`). Directives: `$patch: replace|delete|merge`,
 * `$retainKeys`, `$setElementOrder/FIELD`, `$deleteFromPrimitiveList/FIELD`. Source: apimachinery pkg/util/strategicpatch.
 */
import { fail, ok, type Result } from "../../../src/lib/result.ts";
import {
  cloneJson,
  isJsonObject,
  jsonEquals,
  type JsonObject,
  type JsonValue,
} from "../../../src/model/schema/json.ts";
import type { Schema } from "../../../src/model/schema/schema.ts";

const ORDER = "$setElementOrder/";
const DELETE_FROM = "$deleteFromPrimitiveList/";

class Malformed extends Error {
  override readonly name = "Malformed";
}

/** The patched copy; the original is not changed. The error text says what is wrong with the patch. */
export function applyStrategicMerge(
  schema: Schema,
  original: JsonObject,
  patch: JsonObject,
): Result<JsonObject, string> {
  try {
    return ok(mergeObject(schema, original, patch));
  } catch (error) {
    if (error instanceof Malformed) return fail(error.message);
    throw error;
  }
}

function childSchema(schema: Schema, field: string): Schema {
  if (schema.properties !== undefined && Object.hasOwn(schema.properties, field)) return schema.properties[field] ?? {};
  return typeof schema.additionalProperties === "object" ? schema.additionalProperties : {};
}

function mergeObject(schema: Schema, original: JsonValue | undefined, patch: JsonObject): JsonObject {
  const directive = patch["$patch"];
  if (directive === "replace") return withoutDirectives(patch);
  if (directive === "delete") return {};
  if (directive !== undefined && directive !== "merge")
    throw new Malformed(`unknown patch type: ${JSON.stringify(directive)}`);
  const result: JsonObject = isJsonObject(original) ? { ...original } : {};
  const retained = patch["$retainKeys"];
  if (Array.isArray(retained))
    for (const field of Object.keys(result)) if (!retained.includes(field)) delete result[field];
  for (const [field, value] of Object.entries(patch)) {
    if (field.startsWith("$")) continue;
    if (value === null) delete result[field];
    else
      result[field] = mergeField(
        childSchema(schema, field),
        result[field],
        value,
        patch[`${ORDER}${field}`],
        patch[`${DELETE_FROM}${field}`],
      );
  }
  for (const [directiveName, value] of Object.entries(patch))
    applyListDirective(schema, result, patch, directiveName, value);
  return result;
}

/** Order and deletions of lists that the patch has no items for. */
function applyListDirective(
  schema: Schema,
  result: JsonObject,
  patch: JsonObject,
  name: string,
  value: JsonValue,
): void {
  for (const prefix of [ORDER, DELETE_FROM]) {
    if (!name.startsWith(prefix)) continue;
    const field = name.slice(prefix.length);
    const list = result[field];
    if (Object.hasOwn(patch, field) || !Array.isArray(list)) continue;
    const rule = childSchema(schema, field);
    result[field] =
      prefix === ORDER
        ? sortItems(list, keyOf(rule), value)
        : list.filter((item) => !(Array.isArray(value) ? value : []).some((gone) => jsonEquals(gone, item)));
  }
}

function withoutDirectives(patch: JsonObject): JsonObject {
  return cloneJson(Object.fromEntries(Object.entries(patch).filter(([field]) => !field.startsWith("$"))));
}

function keyOf(schema: Schema): string | undefined {
  return schema["x-kubernetes-patch-merge-key"];
}

function mergeField(
  schema: Schema,
  original: JsonValue | undefined,
  patch: JsonValue,
  order: JsonValue | undefined,
  gone: JsonValue | undefined,
): JsonValue {
  if (isJsonObject(patch)) return mergeObject(schema, original, patch);
  if (!Array.isArray(patch)) return patch;
  if (!(schema["x-kubernetes-patch-strategy"] ?? "").startsWith("merge")) return cloneJson(patch);
  const key = keyOf(schema);
  const items = Array.isArray(original) ? original : [];
  const merged = key === undefined ? mergePrimitives(items, patch, gone) : mergeItems(schema, items, patch, key);
  return sortItems(merged, key, order ?? patch, items);
}

function mergePrimitives(
  original: readonly JsonValue[],
  patch: readonly JsonValue[],
  gone: JsonValue | undefined,
): JsonValue[] {
  const removed = Array.isArray(gone) ? gone : [];
  const kept = original.filter((item) => !removed.some((entry) => jsonEquals(entry, item)));
  return [...kept, ...patch.filter((item) => !kept.some((entry) => jsonEquals(entry, item)))];
}

function mergeItems(
  schema: Schema,
  original: readonly JsonValue[],
  patch: readonly JsonValue[],
  key: string,
): JsonValue[] {
  const replace = patch.some((item) => isJsonObject(item) && item["$patch"] === "replace" && !Object.hasOwn(item, key));
  const result: JsonValue[] = replace ? [] : [...original];
  for (const item of patch) {
    if (!isJsonObject(item)) throw new Malformed(`a list that merges by ${JSON.stringify(key)} must hold objects`);
    if (replace && item["$patch"] === "replace") continue;
    const id = item[key];
    if (id === undefined)
      throw new Malformed(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    const at = result.findIndex((entry) => isJsonObject(entry) && jsonEquals(entry[key], id));
    if (item["$patch"] === "delete") {
      if (at >= 0) result.splice(at, 1);
    } else if (at >= 0) result[at] = mergeObject(schema.items ?? {}, result[at], item);
    else result.push(mergeObject(schema.items ?? {}, {}, item));
  }
  return result;
}

/**
 * The items that the order names in that order, among the others, which keep theirs: a named item comes before another one only if it
 * did so before. Items that are new come after those that were there.
 */
function sortItems(
  items: readonly JsonValue[],
  key: string | undefined,
  order: JsonValue | undefined,
  before: readonly JsonValue[] = items,
): JsonValue[] {
  if (!Array.isArray(order)) return [...items];
  const idOf = (item: JsonValue): JsonValue | undefined => (key !== undefined && isJsonObject(item) ? item[key] : item);
  const indexIn = (list: readonly JsonValue[], item: JsonValue): number =>
    list.findIndex((entry) => jsonEquals(idOf(entry) ?? null, idOf(item) ?? null));
  const named = items.filter((item) => indexIn(order, item) >= 0).sort((a, b) => indexIn(order, a) - indexIn(order, b));
  const others = items.filter((item) => indexIn(order, item) < 0);
  const sorted: JsonValue[] = [];
  for (const item of named) {
    const place = indexIn(before, item);
    while (others.length > 0 && (place < 0 || place > indexIn(before, others[0] ?? null)))
      sorted.push(others.shift() ?? null);
    sorted.push(item);
  }
  return [...sorted, ...others];
}
