/** JsonPatch: RFC 6902 patches over JSON pointers (RFC 6901). */
import { fail, ok, type Result } from "../../../src/lib/result.ts";
import { cloneJson, isJsonObject, jsonEquals, type JsonValue } from "../../../src/model/schema/json.ts";

/** `malformed`: the patch is not a list of operations. `rejected`: a test failed or a path does not exist. */
export interface PatchFailure {
  readonly kind: "malformed" | "rejected";
  readonly detail: string;
}

class Rejection extends Error {
  override readonly name = "Rejection";
}

interface Operation {
  readonly op: string;
  readonly path: readonly string[];
  readonly from: readonly string[] | undefined;
  readonly value: JsonValue | undefined;
}

/** The patched copy; the original is not changed. */
export function applyJsonPatch(original: JsonValue, patch: JsonValue): Result<JsonValue, PatchFailure> {
  const operations: Operation[] = [];
  for (const entry of Array.isArray(patch) ? patch : [null]) {
    const operation = parseOperation(entry);
    if (typeof operation === "string") return fail({ kind: "malformed", detail: operation });
    operations.push(operation);
  }
  const root = { value: cloneJson(original) };
  try {
    for (const operation of operations) applyOperation(root, operation);
  } catch (error) {
    if (error instanceof Rejection) return fail({ kind: "rejected", detail: error.message });
    throw error;
  }
  return ok(root.value);
}

function parseOperation(entry: JsonValue): Operation | string {
  if (!isJsonObject(entry)) return "a JSON patch must be a list of operations";
  const { op, path, from } = entry;
  if (typeof op !== "string" || !["add", "remove", "replace", "move", "copy", "test"].includes(op))
    return `unknown operation ${JSON.stringify(op)}`;
  if (typeof path !== "string" || (path !== "" && !path.startsWith("/")))
    return `path ${JSON.stringify(path)} is no JSON pointer`;
  if ((op === "move" || op === "copy") && typeof from !== "string") return `operation ${op} needs "from"`;
  if (["add", "replace", "test"].includes(op) && !Object.hasOwn(entry, "value")) return `operation ${op} needs "value"`;
  return {
    op,
    path: splitPointer(path),
    from: typeof from === "string" ? splitPointer(from) : undefined,
    value: entry["value"],
  };
}

function splitPointer(pointer: string): string[] {
  return pointer === ""
    ? []
    : pointer
        .slice(1)
        .split("/")
        .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function applyOperation(root: { value: JsonValue }, operation: Operation): void {
  const { op, path, from, value } = operation;
  switch (op) {
    case "add":
      return put(root, path, cloneJson(value ?? null), true);
    case "replace":
      read(root.value, path);
      return put(root, path, cloneJson(value ?? null), false);
    case "remove":
      return remove(root, path);
    case "test":
      if (!jsonEquals(read(root.value, path), value)) throw new Rejection(`testing value ${pointerOf(path)} failed`);
      return;
    case "copy":
      return put(root, path, cloneJson(read(root.value, from ?? [])), true);
    default: {
      const moved = read(root.value, from ?? []);
      remove(root, from ?? []);
      put(root, path, moved, true);
    }
  }
}

function pointerOf(path: readonly string[]): string {
  return `/${path.join("/")}`;
}

function read(root: JsonValue, path: readonly string[]): JsonValue {
  let current: JsonValue | undefined = root;
  for (const part of path) {
    if (Array.isArray(current)) current = current[indexOf(part, current.length - 1)];
    else current = isJsonObject(current) && Object.hasOwn(current, part) ? current[part] : undefined;
    if (current === undefined) throw new Rejection(`path ${pointerOf(path)} does not exist`);
  }
  return current ?? null;
}

function indexOf(part: string, last: number): number {
  if (!/^(0|[1-9]\d*)$/.test(part) || Number(part) > last) throw new Rejection(`no list index ${JSON.stringify(part)}`);
  return Number(part);
}

function put(root: { value: JsonValue }, path: readonly string[], value: JsonValue, insert: boolean): void {
  const last = path.at(-1);
  if (last === undefined) {
    root.value = value;
    return;
  }
  const parent = read(root.value, path.slice(0, -1));
  if (Array.isArray(parent)) {
    if (!insert) parent[indexOf(last, parent.length - 1)] = value;
    else parent.splice(last === "-" ? parent.length : indexOf(last, parent.length), 0, value);
  } else if (isJsonObject(parent)) parent[last] = value;
  else throw new Rejection(`path ${pointerOf(path)} is not in an object or list`);
}

function remove(root: { value: JsonValue }, path: readonly string[]): void {
  const last = path.at(-1);
  if (last === undefined) throw new Rejection("the whole object cannot be removed");
  read(root.value, path);
  const parent = read(root.value, path.slice(0, -1));
  if (Array.isArray(parent)) parent.splice(indexOf(last, parent.length - 1), 1);
  else if (isJsonObject(parent)) delete parent[last];
}
