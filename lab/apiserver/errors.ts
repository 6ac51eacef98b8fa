/**
 * ApiError: an error answer in Kubernetes' format: HTTP code, machine-readable reason, message, details.
 *
 * `details.kind` is the kind in validation errors and the plural resource elsewhere.
 * Source: apimachinery pkg/api/errors.
 */
import { type FieldError, formatFieldError } from "../../src/model/schema/field-error.ts";
import type { JsonObject } from "../../src/model/schema/json.ts";

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: number;
  readonly reason: string;
  readonly details: StatusDetails | undefined;
  constructor(code: number, reason: string, message: string, details?: StatusDetails) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }
}

/** The resource that an error speaks of. */
export interface Subject {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

/** The `Status` object of a refusal. */
export function statusOf(error: ApiError): JsonObject {
  const status: JsonObject = {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: error.message,
  };
  if (error.reason !== "") status["reason"] = error.reason;
  if (error.details !== undefined) status["details"] = JSON.parse(JSON.stringify(error.details));
  status["code"] = error.code;
  return status;
}

/** `pods`, `tiers.projectcalico.org`. */
export function qualified(subject: { readonly group: string }, word: string): string {
  return subject.group === "" ? word : `${word}.${subject.group}`;
}

function detailsOf(subject: Subject, name: string): StatusDetails {
  return {
    ...(name === "" ? {} : { name }),
    ...(subject.group === "" ? {} : { group: subject.group }),
    kind: subject.plural,
  };
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, "BadRequest", message);
}

export function notFound(subject: Subject, name: string): ApiError {
  return new ApiError(
    404,
    "NotFound",
    `${qualified(subject, subject.plural)} ${JSON.stringify(name)} not found`,
    detailsOf(subject, name),
  );
}

/** No such resource or subresource at this path. */
export function noSuchPath(): ApiError {
  return new ApiError(404, "NotFound", "the server could not find the requested resource", {});
}

export function alreadyExists(subject: Subject, name: string, terminating: boolean): ApiError {
  const message = `${terminating ? "object is being deleted: " : ""}${qualified(subject, subject.plural)} ${JSON.stringify(name)} already exists`;
  return new ApiError(409, "AlreadyExists", message, detailsOf(subject, name));
}

export function conflict(subject: Subject, name: string, cause: string): ApiError {
  return new ApiError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(subject, subject.plural)} ${JSON.stringify(name)}: ${cause}`,
    detailsOf(subject, name),
  );
}

export const STALE = "the object has been modified; please apply your changes to the latest version and try again";

export function forbidden(subject: Subject, name: string, cause: string, causes?: readonly StatusCause[]): ApiError {
  const message = `${qualified(subject, subject.plural)} ${JSON.stringify(name)} is forbidden: ${cause}`;
  return new ApiError(403, "Forbidden", message, {
    ...detailsOf(subject, name),
    ...(causes === undefined ? {} : { causes }),
  });
}

export function invalid(subject: Subject, name: string, errors: readonly FieldError[]): ApiError {
  const texts = errors.map(formatFieldError);
  const message = `${subject.kind === "" ? "" : qualified(subject, subject.kind)} ${JSON.stringify(name)} is invalid: ${texts.length === 1 ? texts[0] : `[${texts.join(", ")}]`}`;
  const causes = errors.map((error) => ({
    reason: `FieldValue${error.reason}`,
    message: formatFieldError(error).slice(error.field.length + 2),
    field: error.field,
  }));
  const about =
    subject.kind === "" ? {} : { ...(subject.group === "" ? {} : { group: subject.group }), kind: subject.kind };
  return new ApiError(422, "Invalid", message, { ...(name === "" ? {} : { name }), ...about, causes });
}

/** 422 for parameters of a request; `kind` is the options object that they belong to: `ListOptions`. */
export function invalidOptions(kind: string, errors: readonly FieldError[]): ApiError {
  return invalid({ group: "meta.k8s.io", plural: "", kind }, "", errors);
}

/** 422 for an object that a patch made and that cannot be read; `value` is its text. */
export function invalidPatch(value: string, detail: string): ApiError {
  return invalid({ group: "", plural: "", kind: "" }, "", [{ field: "patch", reason: "Invalid", value, detail }]);
}

export function unsupportedMediaType(accepted: readonly string[]): ApiError {
  return new ApiError(
    415,
    "UnsupportedMediaType",
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(", ")}`,
  );
}

export function notAcceptable(): ApiError {
  return new ApiError(
    406,
    "NotAcceptable",
    "only the following media types are accepted: application/json, application/yaml",
  );
}

export function methodNotAllowed(): ApiError {
  return new ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {});
}

export function expired(message: string): ApiError {
  return new ApiError(410, "Expired", message);
}
