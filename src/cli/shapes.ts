/**
 * Shapes: the types of the fields that `why` reads of Pods, Nodes and Namespaces. Manifests come from anywhere; kube-apiserver would refuse
 * what does not fit, and so do we, by name. A field that is null counts as absent, as there.
 */
import { fail, ok, type Result } from "../lib/result.ts";
import { isJsonObject, type JsonObject, type JsonValue } from "../model/schema/json.ts";

/**
 * `map` is a mapping of texts; a list is written as a list of the shape of its items; fields that are not named may be anything. What has
 * an exclamation mark must be there.
 */
export type Shape =
  | "text"
  | "text!"
  | "number"
  | "number!"
  | "boolean"
  | "map"
  | readonly [Shape]
  | { readonly [field: string]: Shape };

const METADATA: Shape = {
  name: "text",
  generateName: "text",
  namespace: "text",
  labels: "map",
  annotations: "map",
  ownerReferences: [{ kind: "text", name: "text" }],
};
const CONTAINERS: Shape = [
  { ports: [{ name: "text", containerPort: "number!", hostPort: "number", hostIP: "text", protocol: "text" }] },
];

export const POD: Shape = {
  metadata: METADATA,
  spec: {
    nodeName: "text",
    hostNetwork: "boolean",
    serviceAccountName: "text",
    serviceAccount: "text",
    containers: CONTAINERS,
    initContainers: CONTAINERS,
  },
  status: {
    phase: "text",
    podIP: "text",
    podIPs: [{ ip: "text" }],
    hostIP: "text",
    conditions: [{ type: "text", status: "text" }],
  },
};
export const NODE: Shape = { metadata: METADATA, status: { addresses: [{ type: "text", address: "text!" }] } };
/** Of every other kind the metadata alone matters here; specs are read where they are used. */
export const NAMED = { metadata: METADATA } as const satisfies Shape;

/** The object without nulls, or what is wrong: `spec.containers[0].ports: must be a list`. */
export function conform(object: JsonObject, shape: Shape): Result<JsonObject, string> {
  try {
    return ok(fieldsOf(object, shape, ""));
  } catch (error) {
    if (error instanceof Misfit) return fail(error.message);
    throw error;
  }
}

class Misfit extends Error {}

function fieldsOf(object: JsonObject, shape: Shape, path: string): JsonObject {
  const shapes = new Map(typeof shape === "object" && !isList(shape) ? Object.entries(shape) : []);
  const missing = [...shapes].find(
    ([name, wanted]) => typeof wanted === "string" && wanted.endsWith("!") && (object[name] ?? null) === null,
  );
  if (missing !== undefined) throw new Misfit(`${path}.${missing[0]}: must be given`);
  const present = Object.entries(object).filter(([, value]) => value !== null);
  return Object.fromEntries(
    present.map(([name, value]) => {
      const wanted = shapes.get(name);
      return [name, wanted === undefined ? value : fitted(value, wanted, path === "" ? name : `${path}.${name}`)];
    }),
  );
}

function fitted(value: JsonValue, shape: Shape, path: string): JsonValue {
  if (isList(shape)) {
    if (!Array.isArray(value)) throw new Misfit(`${path}: must be a list`);
    return value.map((item, index) => fitted(item, shape[0], `${path}[${index}]`));
  }
  if (typeof shape === "object" || shape === "map") {
    if (!isJsonObject(value)) throw new Misfit(`${path}: must be a mapping`);
    if (shape !== "map") return fieldsOf(value, shape, path);
    return Object.fromEntries(
      Object.entries(value).map(([name, text]) => [
        name,
        text === null ? "" : fitted(text, "text", `${path}[${JSON.stringify(name)}]`),
      ]),
    );
  }
  const type = shape.replace("!", "");
  if (typeof value !== (type === "text" ? "string" : type))
    throw new Misfit(
      `${path}: is ${JSON.stringify(value)}, must be ${type === "text" ? "text; put it in quotes" : `a ${type}`}`,
    );
  return value;
}

function isList(shape: Shape): shape is readonly [Shape] {
  return Array.isArray(shape);
}
