/** Body: the request body as a JSON value, from JSON or YAML, with the fields that it names twice. */
import { load, YAMLException } from "js-yaml";
import { ApiError, badRequest, unsupportedMediaType } from "../errors.ts";
import type { JsonValue } from "../../../src/model/schema/json.ts";
import { duplicateFields } from "./duplicates.ts";
import { decodeProtobuf, PROTOBUF } from "./protobuf.ts";

export interface Body {
  readonly value: JsonValue;
  /** Problems with fields that the text gives more than once, in Kubernetes' words. */
  readonly repeated: readonly string[];
}

/** Bodies of 3 MiB and more are refused, as kube-apiserver does. */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

const ACCEPTED = ["application/json", "application/yaml", PROTOBUF];

/** The media type without parameters; JSON when there is none. */
export function mediaTypeOf(header: string | null): string {
  const type = (header ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  return type === "" ? "application/json" : type;
}

export function tooLarge(): ApiError {
  return new ApiError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${MAX_BODY_BYTES}`);
}

/** Reads JSON, YAML or protobuf; 400 for what cannot be read, 415 for another media type. */
export function parseBody(bytes: Uint8Array, mediaType: string, accepted: readonly string[] = ACCEPTED): Body {
  if (!accepted.includes(mediaType)) throw unsupportedMediaType(accepted);
  if (mediaType === PROTOBUF) return { value: decodeProtobuf(bytes), repeated: [] };
  const text = new TextDecoder().decode(bytes);
  if (mediaType === "application/yaml" || mediaType.endsWith("+yaml")) return parseYaml(text);
  return {
    value: parseJson(text),
    repeated: duplicateFields(text).map((path) => `duplicate field ${JSON.stringify(path)}`),
  };
}

function parseJson(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw badRequest(
      `the object provided is not valid JSON: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** The last of duplicate fields counts; only the first duplicate is reported. */
function parseYaml(text: string): Body {
  try {
    return { value: plain(load(text)), repeated: [] };
  } catch (error) {
    const repeated = error instanceof YAMLException ? repeatedKey(text, error) : undefined;
    if (repeated !== undefined) return { value: plain(load(text, { json: true })), repeated: [repeated] };
    throw badRequest(
      `the object provided is not valid YAML: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function plain(value: unknown): JsonValue {
  return JSON.parse(JSON.stringify(value ?? null)) as JsonValue;
}

function repeatedKey(text: string, error: YAMLException): string | undefined {
  if (!error.message.includes("duplicated mapping key")) return undefined;
  const line = error.mark?.line ?? 0;
  const key = /^[\s-]*(?:"([^"]*)"|'([^']*)'|([^:]*?))\s*:/.exec(text.split("\n")[line] ?? "");
  return `yaml: unmarshal errors:\n  line ${line + 1}: key ${JSON.stringify(key?.slice(1).find((part) => part !== undefined) ?? "")} already set in map`;
}
