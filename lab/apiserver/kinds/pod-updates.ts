/** PodUpdates: what may change in the spec of a Pod that exists. Source: pkg/apis/core/validation, ValidatePodUpdate. */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import {
  arrayAt,
  isJsonObject,
  jsonEquals,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../../../src/model/schema/json.ts";

const FIXED =
  "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/** The spec without the fields that may change after creation. */
function fixedPart(spec: JsonObject): JsonObject {
  const rest = structuredClone(spec);
  for (const field of [
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "tolerations",
    "schedulingGates",
    "ephemeralContainers",
  ])
    delete rest[field];
  for (const list of ["containers", "initContainers"])
    for (const container of arrayAt(rest[list]))
      if (isJsonObject(container))
        for (const field of ["image", "imagePullPolicy", "resources"]) delete container[field];
  delete rest["nodeName"];
  return rest;
}

/** What the change does that it may not; `binding`: it gives the Pod its node. */
export function validateUpdate(spec: JsonObject, before: JsonObject, binding: boolean): FieldError[] {
  const grown = ["containers", "initContainers"].filter(
    (list) => arrayAt(spec[list]).length !== arrayAt(before[list]).length,
  );
  if (grown.length > 0)
    return grown.map((list) => ({
      field: `spec.${list}`,
      reason: "Forbidden",
      value: undefined,
      detail: "pod updates may not add or remove containers",
    }));
  const errors = [...validateDeadline(spec["activeDeadlineSeconds"], before["activeDeadlineSeconds"])];
  if (
    !arrayAt(before["tolerations"]).every((old) =>
      arrayAt(spec["tolerations"]).some((entry) => jsonEquals(withoutSeconds(entry), withoutSeconds(old))),
    )
  ) {
    errors.push({
      field: "spec.tolerations",
      reason: "Forbidden",
      value: undefined,
      detail: "existing toleration can not be modified except its tolerationSeconds",
    });
  }
  const moved = stringAt(spec["nodeName"]) !== stringAt(before["nodeName"]) && !binding;
  if (moved || !jsonEquals(fixedPart(spec), fixedPart(before)))
    errors.push({ field: "spec", reason: "Forbidden", value: undefined, detail: FIXED });
  return errors;
}

function withoutSeconds(toleration: JsonValue): JsonObject {
  const { tolerationSeconds: _, ...rest } = objectAt(toleration);
  return rest;
}

/** A deadline may be set and brought forward. */
function validateDeadline(next: unknown, before: unknown): FieldError[] {
  const field = "spec.activeDeadlineSeconds";
  if (typeof before !== "number") return [];
  if (typeof next !== "number")
    return [{ field, reason: "Invalid", value: null, detail: "must not update from a positive integer to nil value" }];
  return next > before
    ? [{ field, reason: "Invalid", value: next, detail: "must be less than or equal to previous value" }]
    : [];
}
