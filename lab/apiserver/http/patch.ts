/** Patch: PATCH in its three forms; server-side apply is refused in words. */
import { isJsonObject, type JsonObject, type JsonValue } from "../../../src/model/schema/json.ts";
import { ApiError, badRequest, unsupportedMediaType } from "../errors.ts";
import type { Context } from "../objects/context.ts";
import { patchObject, type Place, type Written } from "../objects/write.ts";
import { applyJsonPatch } from "../patch/json-patch.ts";
import { applyMergePatch } from "../patch/merge-patch.ts";
import { applyStrategicMerge } from "../patch/strategic-merge.ts";
import { mediaTypeOf, parseBody } from "./body.ts";
import { parseWriteOptions, type ResourceRequest } from "./request.ts";

const JSON_PATCH = "application/json-patch+json";
const MERGE_PATCH = "application/merge-patch+json";
const STRATEGIC = "application/strategic-merge-patch+json";

export function patchResource(
  context: Context,
  place: Place,
  name: string,
  subresource: string,
  request: ResourceRequest,
): Written {
  const mediaType = mediaTypeOf(request.headers.get("content-type"));
  if (mediaType.startsWith("application/apply-patch+")) {
    throw new ApiError(
      415,
      "UnsupportedMediaType",
      "server-side apply is not served by this API server: use `kubectl apply` without --server-side",
    );
  }
  const accepted = place.type.builtIn ? [JSON_PATCH, MERGE_PATCH, STRATEGIC] : [JSON_PATCH, MERGE_PATCH];
  if (!accepted.includes(mediaType)) throw unsupportedMediaType(accepted);
  const patch = parseBody(request.body, mediaType, accepted);
  const apply = (current: JsonObject): JsonValue => {
    if (mediaType === JSON_PATCH) return jsonPatched(current, patch.value);
    if (!isJsonObject(patch.value)) throw badRequest("error decoding patch: it must be a JSON object");
    return mediaType === MERGE_PATCH
      ? applyMergePatch(current, patch.value)
      : strategicPatched(place, current, patch.value);
  };
  const { dryRun, fieldValidation } = parseWriteOptions(request.query, "PatchOptions");
  return patchObject(context, place, name, subresource, patch, apply, { dryRun, fieldValidation });
}

function jsonPatched(current: JsonObject, patch: JsonValue): JsonValue {
  const result = applyJsonPatch(current, patch);
  if (result.ok) return result.value;
  if (!Array.isArray(patch)) throw badRequest("error decoding patch: a JSON patch must be a list of operations");
  throw new ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {});
}

function strategicPatched(place: Place, current: JsonObject, patch: JsonObject): JsonValue {
  const result = applyStrategicMerge(place.version.schema, current, patch);
  if (result.ok) return result.value;
  throw badRequest(result.error);
}
