/** Selectors: label and field selectors of list and watch requests, parsed from their query parameters into predicates. */
import { badRequest } from "../errors.ts";
import type { ApiObject } from "../object.ts";
import type { ResourceType } from "../resource-type.ts";
import { parseRequirements } from "./label-requirements.ts";

export type Predicate = (object: ApiObject) => boolean;

/** Parses `a=b,c!=d,e in (f,g),h,!i,j>1`; 400 on what cannot be read. undefined when the selector is empty. */
export function parseLabelSelector(text: string): Predicate | undefined {
  const tests = parseRequirements(text);
  if (tests.length === 0) return undefined;
  return (object) => {
    const labels = object.metadata.labels ?? {};
    return tests.every((test) => test(labels));
  };
}

/** Parses `metadata.name=x,status.phase!=y`; 400 for fields that the kind does not select by. undefined when empty. */
export function parseFieldSelector(text: string, type: ResourceType): Predicate | undefined {
  const tests: Predicate[] = [];
  for (const part of text.split(/(?<!\\),/)) {
    if (part.trim() === "") continue;
    const match = /^([^=!]+)(==|=|!=)(.*)$/s.exec(part.trim());
    if (match === null) throw badRequest(`invalid selector: '${text}'; can't understand '${part}'`);
    const [, field = "", operator, raw = ""] = match;
    const value = raw.replace(/\\([\\,=])/g, "$1");
    const read = fieldReader(field, type);
    tests.push(operator === "!=" ? (object) => read(object) !== value : (object) => read(object) === value);
  }
  return tests.length === 0 ? undefined : (object) => tests.every((test) => test(object));
}

function fieldReader(field: string, type: ResourceType): (object: ApiObject) => string {
  if (field === "metadata.name") return (object) => object.metadata.name;
  if (field === "metadata.namespace" && (type.namespaced || type.builtIn))
    return (object) => object.metadata.namespace ?? "";
  const read = Object.hasOwn(type.selectableFields, field) ? type.selectableFields[field] : undefined;
  if (read === undefined)
    throw badRequest(
      type.builtIn && Object.keys(type.selectableFields).length === 0
        ? `${JSON.stringify(field)} is not a known field selector: only "metadata.name", "metadata.namespace"`
        : `field label not supported: ${field}`,
    );
  return read;
}

/** Both selectors of a request as one predicate; undefined selects everything. */
export function parseSelectors(query: URLSearchParams, type: ResourceType): Predicate | undefined {
  const labels = parseLabelSelector(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "", type);
  if (labels === undefined || fields === undefined) return labels ?? fields;
  return (object) => labels(object) && fields(object);
}
