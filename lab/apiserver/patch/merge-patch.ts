/** MergePatch: RFC 7396: objects merge, null removes, everything else replaces. */
import { cloneJson, isJsonObject, type JsonObject, type JsonValue } from "../../../src/model/schema/json.ts";

/** The patched copy; the original is not changed. */
export function applyMergePatch(original: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (!isJsonObject(patch)) return cloneJson(patch);
  const result: JsonObject = isJsonObject(original) ? { ...original } : {};
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete result[field];
    else result[field] = applyMergePatch(result[field], value);
  }
  return result;
}
