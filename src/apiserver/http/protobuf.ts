/**
 * Protobuf: request bodies in Kubernetes' protobuf form, which `kubectl create namespace|serviceaccount|configmap|secret|service` and
 * `kubectl drain` send and for which they have no fall-back. Decoded to the same JSON that other clients send; zero values count as absent, as in Go's JSON.
 *
 * Field numbers: generated.proto of k8s.io/api/core/v1, k8s.io/apimachinery/pkg/{runtime,apis/meta/v1,util/intstr}.
 */
import { badRequest } from "../errors.ts";
import type { JsonObject, JsonValue } from "../../model/schema/json.ts";

export const PROTOBUF = "application/vnd.kubernetes.protobuf";

/** By field number: name, and type: a scalar (`int?` keeps zero), `*T` a list, `{T}` a map with string keys, another name a message. */
type Fields = Readonly<Record<number, readonly [field: string, type: string]>>;

const MESSAGES: Readonly<Record<string, Fields>> = {
  Unknown: { 1: ["typeMeta", "TypeMeta"], 2: ["raw", "raw"], 3: ["contentEncoding", "string"], 4: ["contentType", "string"] },
  TypeMeta: { 1: ["apiVersion", "string"], 2: ["kind", "string"] },
  ObjectMeta: {
    1: ["name", "string"], 2: ["generateName", "string"], 3: ["namespace", "string"], 5: ["uid", "string"], 6: ["resourceVersion", "string"], 11: ["labels", "{string}"],
    12: ["annotations", "{string}"], 13: ["ownerReferences", "*OwnerReference"], 14: ["finalizers", "*string"],
  },
  OwnerReference: { 1: ["kind", "string"], 3: ["name", "string"], 4: ["uid", "string"], 5: ["apiVersion", "string"], 6: ["controller", "bool"], 7: ["blockOwnerDeletion", "bool"] },
  Namespace: { 1: ["metadata", "ObjectMeta"], 2: ["spec", "NamespaceSpec"] },
  NamespaceSpec: { 1: ["finalizers", "*string"] },
  ServiceAccount: { 1: ["metadata", "ObjectMeta"], 2: ["secrets", "*ObjectReference"], 3: ["imagePullSecrets", "*LocalObjectReference"], 4: ["automountServiceAccountToken", "bool"] },
  ObjectReference: { 1: ["kind", "string"], 2: ["namespace", "string"], 3: ["name", "string"], 4: ["uid", "string"], 5: ["apiVersion", "string"], 6: ["resourceVersion", "string"], 7: ["fieldPath", "string"] },
  LocalObjectReference: { 1: ["name", "string"] },
  ConfigMap: { 1: ["metadata", "ObjectMeta"], 2: ["data", "{string}"], 3: ["binaryData", "{bytes}"], 4: ["immutable", "bool"] },
  Secret: { 1: ["metadata", "ObjectMeta"], 2: ["data", "{bytes}"], 3: ["type", "string"], 4: ["stringData", "{string}"], 5: ["immutable", "bool"] },
  Service: { 1: ["metadata", "ObjectMeta"], 2: ["spec", "ServiceSpec"] },
  ServiceSpec: {
    1: ["ports", "*ServicePort"], 2: ["selector", "{string}"], 3: ["clusterIP", "string"], 4: ["type", "string"], 5: ["externalIPs", "*string"], 7: ["sessionAffinity", "string"],
    8: ["loadBalancerIP", "string"], 9: ["loadBalancerSourceRanges", "*string"], 10: ["externalName", "string"], 11: ["externalTrafficPolicy", "string"], 12: ["healthCheckNodePort", "int"],
    13: ["publishNotReadyAddresses", "bool"], 17: ["ipFamilyPolicy", "string"], 18: ["clusterIPs", "*string"], 19: ["ipFamilies", "*string"], 20: ["allocateLoadBalancerNodePorts", "bool"],
    21: ["loadBalancerClass", "string"], 22: ["internalTrafficPolicy", "string"], 23: ["trafficDistribution", "string"],
  },
  ServicePort: { 1: ["name", "string"], 2: ["protocol", "string"], 3: ["port", "int"], 4: ["targetPort", "IntOrString"], 5: ["nodePort", "int"], 6: ["appProtocol", "string"] },
  DeleteOptions: {
    1: ["gracePeriodSeconds", "int?"], 2: ["preconditions", "Preconditions"], 3: ["orphanDependents", "bool"], 4: ["propagationPolicy", "string"], 5: ["dryRun", "*string"],
  },
  Preconditions: { 1: ["uid", "string"], 2: ["resourceVersion", "string"] },
  IntOrString: { 1: ["type", "int"], 2: ["intVal", "int"], 3: ["strVal", "string"] },
};

/** Messages that may be the body of a request. */
const KINDS: ReadonlySet<string> = new Set(["Namespace", "ServiceAccount", "ConfigMap", "Secret", "Service", "DeleteOptions"]);
const MAGIC = [0x6b, 0x38, 0x73, 0x00];

/** The object in the body; 400 for bytes that are no such message. */
export function decodeProtobuf(bytes: Uint8Array): JsonObject {
  if (!MAGIC.every((byte, index) => bytes[index] === byte)) throw badRequest('the body is no Kubernetes protobuf message: it does not start with "k8s\\0"');
  let raw: Uint8Array = new Uint8Array();
  const envelope = new Reader(bytes.subarray(4)).message("Unknown", (value) => (raw = value));
  const typeMeta = envelope["typeMeta"];
  const { apiVersion = "", kind = "" } = typeof typeMeta === "object" && typeMeta !== null && !Array.isArray(typeMeta) ? typeMeta : {};
  if ((apiVersion !== "v1" && kind !== "DeleteOptions") || typeof kind !== "string" || !KINDS.has(kind)) {
    throw badRequest(`a ${String(apiVersion)} ${String(kind)} is not read from protobuf by this API server: send application/json`);
  }
  return { apiVersion, kind, ...new Reader(raw).message(kind) };
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  #varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asIntN(64, value);
    }
    throw badRequest("the protobuf body ends within a number");
  }

  #slice(length: number): Uint8Array {
    if (length < 0 || this.#at + length > this.#bytes.length) throw badRequest("the protobuf body ends within a field");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** Reads a message to the end; `onRaw` gets the bytes of a field of type raw. */
  message(name: string, onRaw: (value: Uint8Array) => void = () => {}): JsonObject {
    return this.fields(MESSAGES[name] ?? {}, onRaw);
  }

  fields(known: Fields, onRaw: (value: Uint8Array) => void = () => {}): JsonObject {
    const out: JsonObject = {};
    while (this.#at < this.#bytes.length) {
      const key = Number(this.#varint());
      const [field, wire] = [key >> 3, key & 7];
      const value: bigint | Uint8Array = wire === 0 ? this.#varint() : this.#slice(wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? Number(this.#varint()) : -1);
      const [name, type] = known[field] ?? [];
      if (name === undefined || type === undefined) continue;
      if (type === "raw") onRaw(value instanceof Uint8Array ? value : new Uint8Array());
      else assign(out, name, type, value);
    }
    return out;
  }
}

function assign(out: JsonObject, field: string, type: string, value: bigint | Uint8Array): void {
  if (type.startsWith("*")) {
    const list = out[field];
    const item = scalar(type.slice(1), value);
    out[field] = [...(Array.isArray(list) ? list : []), item ?? ""];
  } else if (type.startsWith("{")) {
    const [name, item] = mapEntry(type.slice(1, -1), value);
    const map = out[field];
    out[field] = { ...(typeof map === "object" && map !== null && !Array.isArray(map) ? map : {}), [name]: item };
  } else {
    const item = scalar(type, value);
    if (item !== undefined) out[field] = item;
  }
}

/** undefined for the zero value. */
function scalar(type: string, value: bigint | Uint8Array): JsonValue | undefined {
  if (typeof value === "bigint") {
    if (type === "bool") return value === 0n ? undefined : true;
    return type === "int?" || (type === "int" && value !== 0n) ? Number(value) : undefined;
  }
  if (type === "string") return value.length === 0 ? undefined : new TextDecoder().decode(value);
  if (type === "bytes") return Buffer.from(value).toString("base64");
  const message = new Reader(value).message(type);
  if (type === "IntOrString") return message["type"] === 1 ? (message["strVal"] ?? undefined) : (message["intVal"] ?? undefined);
  return message;
}

function mapEntry(type: string, value: bigint | Uint8Array): readonly [string, JsonValue] {
  if (typeof value === "bigint") throw badRequest("a map in the protobuf body holds a number where an entry must be");
  const read = new Reader(value).fields({ 1: ["name", "string"], 2: ["item", type] });
  return [typeof read["name"] === "string" ? read["name"] : "", read["item"] ?? ""];
}
