/**
 * Patch: what `calicoctl patch` does to an object before it is validated and written back: a merge patch (RFC 7386) or a JSON patch
 * (RFC 6902). A strategic merge patch equals a merge patch here, because no list of these kinds is merged by a key; its directives are
 * refused.
 */
import { cloneJson, isJsonObject, jsonEquals, type JsonObject, type JsonValue } from "../../model/schema/json.ts";
import { Refusal } from "./failures.ts";

export type PatchType = "strategic" | "merge" | "json";
export const PATCH_TYPES: readonly PatchType[] = ["strategic", "merge", "json"];

/** Throws Refusal when the patch is malformed or does not fit the object. */
export function patched(object: JsonObject, patch: JsonValue, type: PatchType): JsonObject {
  const result = type === "json" ? jsonPatched(object, patch) : mergePatched(object, patch, type);
  if (isJsonObject(result)) return result;
  throw new Refusal("performing patch: the patch would replace the object by something that is no object");
}

function mergePatched(object: JsonObject, patch: JsonValue, type: PatchType): JsonValue {
  if (!isJsonObject(patch)) throw new Refusal(`performing ${type} merge patch: the patch must be an object`);
  if (type === "strategic") refuseDirectives(patch, "");
  return merge(object, patch);
}

function merge(value: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (!isJsonObject(patch)) return cloneJson(patch);
  const result: JsonObject = isJsonObject(value) ? { ...value } : {};
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) delete result[name];
    else result[name] = merge(Object.hasOwn(result, name) ? result[name] : undefined, change);
  }
  return result;
}

function refuseDirectives(patch: JsonValue, path: string): void {
  if (Array.isArray(patch)) patch.forEach((item, index) => refuseDirectives(item, `${path}[${index}]`));
  if (!isJsonObject(patch)) return;
  for (const [name, value] of Object.entries(patch)) {
    const field = path === "" ? name : `${path}.${name}`;
    if (name.startsWith("$"))
      throw new Refusal(
        `performing strategic merge patch: directive ${field} is not supported: use --type json to add or remove items of a list`,
      );
    refuseDirectives(value, field);
  }
}

function jsonPatched(object: JsonObject, patch: JsonValue): JsonValue {
  if (!Array.isArray(patch)) throw wrong("the patch must be a list of operations");
  const root: JsonObject = { "": cloneJson(object) };
  patch.forEach((operation, index) => operate(root, operation, index));
  return root[""] ?? null;
}

function wrong(detail: string): Refusal {
  return new Refusal(`performing json patch: ${detail}`);
}

function operate(root: JsonObject, operation: JsonValue, index: number): void {
  const at = `operation ${index + 1}`;
  if (!isJsonObject(operation)) throw wrong(`${at} must be an object with op and path`);
  const { op, path, from, value } = operation;
  const target = pointerOf(path, at, "path");
  switch (op) {
    case "add":
      return add(root, target, needed(value, at), at);
    case "remove":
      return void remove(root, target, at);
    case "replace":
      remove(root, target, at);
      return add(root, target, needed(value, at), at);
    case "move":
      return add(root, target, remove(root, pointerOf(from, at, "from"), at), at);
    case "copy":
      return add(root, target, cloneJson(read(root, pointerOf(from, at, "from"), at)), at);
    case "test":
      if (jsonEquals(read(root, target, at), needed(value, at))) return;
      throw wrong(`${at}: test failed: ${String(path)} is ${JSON.stringify(read(root, target, at))}`);
    default:
      throw wrong(`${at}: op ${JSON.stringify(op ?? null)} must be add, remove, replace, move, copy or test`);
  }
}

function needed(value: JsonValue | undefined, at: string): JsonValue {
  if (value === undefined) throw wrong(`${at} must have value`);
  return value;
}

function pointerOf(path: JsonValue | undefined, at: string, field: string): readonly string[] {
  if (typeof path !== "string" || (path !== "" && !path.startsWith("/")))
    throw wrong(`${at}: ${field} ${JSON.stringify(path ?? null)} must be a path such as /spec/order`);
  return path.split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** What holds the last part of the pointer. */
function holderOf(root: JsonObject, pointer: readonly string[], at: string): JsonObject | JsonValue[] {
  const holder = pointer.length === 1 ? root : read(root, pointer.slice(0, -1), at);
  if (typeof holder !== "object" || holder === null) throw wrong(`${at}: ${pointer.join("/")} does not exist`);
  return holder;
}

function read(root: JsonObject, pointer: readonly string[], at: string): JsonValue {
  let current: JsonValue | undefined = root;
  for (const part of pointer) {
    if (Array.isArray(current)) current = current[indexOf(part, current.length - 1, pointer, at)];
    else current = isJsonObject(current) && Object.hasOwn(current, part) ? current[part] : undefined;
    if (current === undefined) throw wrong(`${at}: ${pointer.join("/")} does not exist`);
  }
  return current as JsonValue;
}

function add(root: JsonObject, pointer: readonly string[], value: JsonValue, at: string): void {
  const holder = holderOf(root, pointer, at);
  const last = pointer.at(-1) ?? "";
  if (!Array.isArray(holder)) holder[last] = value;
  else holder.splice(last === "-" ? holder.length : indexOf(last, holder.length, pointer, at), 0, value);
}

function remove(root: JsonObject, pointer: readonly string[], at: string): JsonValue {
  const value = read(root, pointer, at);
  const holder = holderOf(root, pointer, at);
  const last = pointer.at(-1) ?? "";
  if (Array.isArray(holder)) holder.splice(Number(last), 1);
  else delete holder[last];
  return value;
}

function indexOf(part: string, most: number, pointer: readonly string[], at: string): number {
  const index = /^(0|[1-9]\d*)$/.test(part) ? Number(part) : Number.NaN;
  if (index <= most) return index;
  throw wrong(`${at}: ${pointer.join("/")}: ${JSON.stringify(part)} must be an index from 0 to ${most}`);
}
