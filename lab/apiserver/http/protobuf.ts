/**
 * Protobuf: request bodies in Kubernetes' protobuf form, which `kubectl create namespace|serviceaccount|configmap|secret|service`, `kubectl drain`
 * and typed clients of client-go send, and for which they have no fall-back. Decoded to the same JSON that other clients send; zero values
 * count as absent, as in Go's JSON.
 *
 * Source: k8s.io/apimachinery/pkg/runtime/serializer/protobuf; the fields are in `protobuf-fields.ts`.
 */
import { formatTimestamp } from "../../../src/lib/timestamp.ts";
import { badRequest } from "../errors.ts";
import type { JsonObject, JsonValue } from "../../../src/model/schema/json.ts";
import { PROTOBUF_FIELDS } from "./protobuf-fields.ts";

export const PROTOBUF = "application/vnd.kubernetes.protobuf";

/** By field number: name and type, as `protobuf-fields.ts` writes them. */
type Fields = ReadonlyMap<number, readonly [name: string, type: string]>;

/** Of the envelope and of what JSON has as a scalar. */
const OWN_MESSAGES = `
Unknown 1=typeMeta:TypeMeta 2=raw:raw 3=contentEncoding:string 4=contentType:string
TypeMeta 1=apiVersion:string 2=kind:string
time 1=seconds:int 2=nanos:int
quantity 1=text:string
intstr 1=type:int 2=intVal:int? 3=strVal:string?
`;

const MESSAGES: ReadonlyMap<string, Fields> = new Map(
  (OWN_MESSAGES + PROTOBUF_FIELDS)
    .trim()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [message = "", ...fields] = line.split(" ");
      return [
        message,
        new Map(
          fields.map((field) => {
            const [, number = "", name = "", type = ""] = /^(\d+)=([^:]+):(.+)$/.exec(field) ?? [];
            return [Number(number), [name, type]] as const;
          }),
        ),
      ] as const;
    }),
);

/** The messages that may be the body of a request, by apiVersion and kind. */
function messageOf(apiVersion: string, kind: string): string | undefined {
  if (kind === "DeleteOptions") return "meta.v1.DeleteOptions";
  const [, group = "core", version] = /^(?:(core|discovery|networking)(?:\.k8s\.io)?\/)?(v1)$/.exec(apiVersion) ?? [];
  const name = `${group}.${version}.${kind}`;
  const fields = version === undefined ? undefined : MESSAGES.get(name);
  return fields?.get(1)?.[0] === "metadata" ? name : undefined;
}

const MAGIC = [0x6b, 0x38, 0x73, 0x00];

/** The object in the body; 400 for bytes that are no such message. */
export function decodeProtobuf(bytes: Uint8Array): JsonObject {
  if (!MAGIC.every((byte, index) => bytes[index] === byte))
    throw badRequest('the body is no Kubernetes protobuf message: it does not start with "k8s\\0"');
  let raw: Uint8Array = new Uint8Array();
  const envelope = new Reader(bytes.subarray(4)).message("Unknown", (value) => (raw = value));
  const typeMeta = envelope["typeMeta"];
  const { apiVersion = "", kind = "" } =
    typeof typeMeta === "object" && typeMeta !== null && !Array.isArray(typeMeta) ? typeMeta : {};
  const message = messageOf(String(apiVersion), String(kind));
  if (message === undefined)
    throw badRequest(
      `a ${String(apiVersion)} ${String(kind)} is not read from protobuf by this API server: send application/json`,
    );
  return { apiVersion, kind, ...new Reader(raw).message(message) };
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
    return this.fields(MESSAGES.get(name) ?? new Map(), onRaw);
  }

  fields(known: Fields, onRaw: (value: Uint8Array) => void = () => {}): JsonObject {
    const out: JsonObject = {};
    while (this.#at < this.#bytes.length) {
      const key = Number(this.#varint());
      const [field, wire] = [key >> 3, key & 7];
      const value: bigint | Uint8Array =
        wire === 0
          ? this.#varint()
          : this.#slice(wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? Number(this.#varint()) : -1);
      const [name, type] = known.get(field) ?? [];
      if (name === undefined || type === undefined) continue;
      if (name === "^" && value instanceof Uint8Array) Object.assign(out, new Reader(value).message(type));
      else if (type === "raw") onRaw(value instanceof Uint8Array ? value : new Uint8Array());
      else assign(out, name, type, value);
    }
    return out;
  }
}

function assign(out: JsonObject, field: string, type: string, value: bigint | Uint8Array): void {
  if (type.startsWith("*")) {
    const list = out[field];
    // A zero value in a list is an item like others.
    const item = scalar(type.slice(1), value) ?? (typeof value === "bigint" ? 0 : "");
    out[field] = [...(Array.isArray(list) ? list : []), item];
  } else if (type.startsWith("{")) {
    const [name, item] = mapEntry(type.slice(1, -1), value);
    const map = out[field];
    out[field] = { ...(typeof map === "object" && map !== null && !Array.isArray(map) ? map : {}), [name]: item };
  } else {
    const item = scalar(type, value);
    if (item !== undefined) out[field] = item;
  }
}

/** undefined for the zero value, but where it means something. */
function scalar(type: string, value: bigint | Uint8Array): JsonValue | undefined {
  const kept = type.endsWith("?");
  if (typeof value === "bigint") {
    if (!kept && value === 0n) return undefined;
    return type.startsWith("bool") ? value !== 0n : Number(value);
  }
  if (type === "string" || type === "string?")
    return value.length === 0 && !kept ? undefined : new TextDecoder().decode(value);
  if (type === "bytes") return Buffer.from(value).toString("base64");
  if (type === "double") return new DataView(value.buffer, value.byteOffset, value.byteLength).getFloat64(0, true);
  const message = new Reader(value).message(type);
  if (type === "intstr") return message["type"] === 1 ? (message["strVal"] ?? "") : (message["intVal"] ?? 0);
  if (type === "quantity") return message["text"] ?? "0";
  if (type === "time") return value.length === 0 ? undefined : timeOf(message);
  return message;
}

/** RFC 3339, with microseconds where there is a fraction. */
function timeOf({ seconds = 0, nanos = 0 }: JsonObject): string {
  const fraction = Number(nanos) === 0 ? "" : `.${String(Math.floor(Number(nanos) / 1000)).padStart(6, "0")}`;
  return formatTimestamp(Number(seconds) * 1000).replace(/(\.\d+)?Z$/, `${fraction}Z`);
}

function mapEntry(type: string, value: bigint | Uint8Array): readonly [string, JsonValue] {
  if (typeof value === "bigint") throw badRequest("a map in the protobuf body holds a number where an entry must be");
  const read = new Reader(value).fields(
    new Map([
      [1, ["name", "string"]],
      [2, ["item", type]],
    ]),
  );
  return [typeof read["name"] === "string" ? read["name"] : "", read["item"] ?? ""];
}
