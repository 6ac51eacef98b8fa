/**
 * Request: what an API request asks for: the place in the API from the path, the options from the query.
 *
 * Paths: `/api/v1/…` for the core group, `/apis/GROUP/VERSION/…` for the others; `[namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE]]` below.
 */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { badRequest, invalidOptions } from "../errors.ts";

export interface Target {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/** A request whose body has been read. */
export interface ResourceRequest {
  readonly method: string;
  readonly target: Target;
  readonly query: URLSearchParams;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

/** undefined when the path is not that of a resource. */
export function parseTarget(path: string): Target | undefined {
  const parts = path.split("/").slice(1).map(decodePart);
  if (parts.at(-1) === "") parts.pop();
  const core = parts[0] === "api";
  if (!core && parts[0] !== "apis") return undefined;
  const group = core ? "" : parts[1];
  const version = core ? parts[1] : parts[2];
  const rest = parts.slice(core ? 2 : 3);
  if (group === undefined || version === undefined || rest.length === 0 || rest.some((part) => part === ""))
    return undefined;
  const inNamespace =
    rest[0] === "namespaces" &&
    rest.length > 2 &&
    !(group === "" && (rest[2] === "status" || rest[2] === "finalize") && rest.length === 3);
  const [resource, name, subresource, ...more] = inNamespace ? rest.slice(2) : rest;
  if (resource === undefined || (more.length > 0 && subresource !== "proxy")) return undefined;
  return { group, version, resource, namespace: inNamespace ? rest[1] : undefined, name, subresource };
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw badRequest(`invalid escape in the path segment ${JSON.stringify(part)}`);
  }
}

export type FieldValidation = "Strict" | "Warn" | "Ignore";

export interface WriteOptions {
  readonly dryRun: boolean;
  readonly fieldValidation: FieldValidation;
}

/** What is wrong with the values of `dryRun`. */
export function dryRunProblems(values: readonly unknown[]): FieldError[] {
  return values.some((value) => value !== "All")
    ? [{ field: "dryRun", reason: "NotSupported", value: values, detail: '"All"' }]
    : [];
}

/** `dryRun` and `fieldValidation` of a write; `kind` is the name of its options: `CreateOptions`. */
export function parseWriteOptions(query: URLSearchParams, kind: string): WriteOptions {
  const dryRun = query.getAll("dryRun").filter((value) => value !== "");
  const fieldValidation = query.get("fieldValidation") ?? "";
  const errors = dryRunProblems(dryRun);
  if (!["", "Warn", "Strict", "Ignore"].includes(fieldValidation))
    errors.push({
      field: "fieldValidation",
      reason: "NotSupported",
      value: fieldValidation,
      detail: '"", "Ignore", "Strict", "Warn"',
    });
  if (errors.length > 0) throw invalidOptions(kind, errors);
  return {
    dryRun: dryRun.length > 0,
    fieldValidation: fieldValidation === "Strict" || fieldValidation === "Ignore" ? fieldValidation : "Warn",
  };
}

/** A query parameter that is a boolean, in Go's spellings. */
export function flagOf(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  return value === "true" || value === "1" || value === "True" || value === "TRUE" || value === "t" || value === "T";
}

/** A query parameter that is a whole number of at least 0, or undefined. */
export function countOf(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name);
  if (value === null || value === "") return undefined;
  if (!/^\d{1,15}$/.test(value)) throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(value)}: invalid syntax`);
  return Number(value);
}
