/**
 * V2Protobuf: the OpenAPI v2 document in gnostic's protobuf form, the only one that kubectl 1.20 asks for.
 *
 * Only the parts that `openApiV2Document` makes are encoded. Source: github.com/google/gnostic openapiv2/OpenAPIv2.proto (field numbers).
 */
import { dump } from "js-yaml";
import {
  arrayAt,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../../../src/model/schema/json.ts";

/** Bytes of one message, written field by field. */
class Message {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  #push(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }

  bytes(field: number, value: Uint8Array): this {
    this.#push(varint((field << 3) | 2));
    this.#push(varint(value.length));
    this.#push(value);
    return this;
  }

  /** Empty strings are left out, as proto3 does. */
  string(field: number, value: string): this {
    return value === "" ? this : this.bytes(field, Buffer.from(value));
  }

  message(field: number, value: Message): this {
    return this.bytes(field, value.finish());
  }

  flag(field: number, value: boolean): this {
    if (value) this.#push(Uint8Array.of(...varint(field << 3), 1));
    return this;
  }

  integer(field: number, value: number): this {
    this.#push(varint(field << 3));
    this.#push(varint(value));
    return this;
  }

  double(field: number, value: number): this {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value, true);
    this.#push(varint((field << 3) | 1));
    this.#push(bytes);
    return this;
  }

  finish(): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

export function encodeOpenApiV2(document: JsonObject): Uint8Array<ArrayBuffer> {
  const info = objectAt(document["info"]);
  const paths = new Message();
  for (const [path, item] of Object.entries(objectAt(document["paths"])))
    paths.message(2, new Message().string(1, path).message(2, pathItem(objectAt(item))));
  const definitions = new Message();
  for (const [name, schema] of Object.entries(objectAt(document["definitions"])))
    definitions.message(1, new Message().string(1, name).message(2, schemaOf(objectAt(schema))));
  return new Message()
    .string(1, stringAt(document["swagger"]))
    .message(2, new Message().string(1, stringAt(info["title"])).string(2, stringAt(info["version"])))
    .message(8, paths)
    .message(9, definitions)
    .finish();
}

const METHODS: Readonly<Record<string, number>> = { get: 2, put: 3, post: 4, delete: 5, options: 6, head: 7, patch: 8 };

function pathItem(item: JsonObject): Message {
  const message = new Message();
  for (const [method, field] of Object.entries(METHODS))
    if (isJsonObject(item[method])) message.message(field, operation(objectAt(item[method])));
  return message;
}

function operation(entry: JsonObject): Message {
  const message = new Message().string(5, stringAt(entry["operationId"]));
  for (const parameter of arrayAt(entry["parameters"])) message.message(8, queryParameter(objectAt(parameter)));
  const response = new Message().string(1, "200").message(2, new Message().message(1, new Message().string(1, "OK")));
  message.message(9, new Message().message(1, response));
  extensions(message, 13, entry);
  return message;
}

/** ParametersItem{Parameter{NonBodyParameter{QueryParameterSubSchema}}}. */
function queryParameter(parameter: JsonObject): Message {
  const query = new Message()
    .string(2, "query")
    .string(4, stringAt(parameter["name"]))
    .string(6, stringAt(parameter["type"]));
  const nonBody = new Message().message(3, query);
  return new Message().message(1, new Message().message(2, nonBody));
}

/** Vendor extensions: NamedAny{name, Any{yaml}}. */
function extensions(message: Message, field: number, source: JsonObject): void {
  for (const [name, value] of Object.entries(source))
    if (name.startsWith("x-")) message.message(field, new Message().string(1, name).message(2, anyOf(value)));
}

function anyOf(value: JsonValue): Message {
  return new Message().string(2, dump(value));
}

function schemaOf(schema: JsonObject): Message {
  const message = new Message()
    .string(1, stringAt(schema["$ref"]))
    .string(2, stringAt(schema["format"]))
    .string(4, stringAt(schema["description"]));
  if (typeof schema["maximum"] === "number") message.double(7, schema["maximum"]);
  if (typeof schema["minimum"] === "number") message.double(9, schema["minimum"]);
  if (typeof schema["maxLength"] === "number") message.integer(11, schema["maxLength"]);
  if (typeof schema["minLength"] === "number") message.integer(12, schema["minLength"]);
  message.string(13, stringAt(schema["pattern"]));
  for (const field of arrayAt(schema["required"])) message.string(19, stringAt(field));
  for (const value of arrayAt(schema["enum"])) message.message(20, anyOf(value));
  if (isJsonObject(schema["additionalProperties"]))
    message.message(21, new Message().message(1, schemaOf(schema["additionalProperties"])));
  if (typeof schema["type"] === "string") message.message(22, new Message().string(1, schema["type"]));
  if (isJsonObject(schema["items"])) message.message(23, new Message().message(1, schemaOf(schema["items"])));
  if (isJsonObject(schema["properties"])) message.message(25, properties(schema["properties"]));
  extensions(message, 31, schema);
  return message;
}

function properties(entries: JsonObject): Message {
  const message = new Message();
  for (const [name, schema] of Object.entries(entries))
    message.message(1, new Message().string(1, name).message(2, schemaOf(objectAt(schema))));
  return message;
}
