/** Selectors: label and field selectors of list and watch requests, parsed from their query parameters into predicates. */
import { badRequest } from "../errors.ts";
import type { ApiObject } from "../object.ts";
import type { ResourceType } from "../resource-type.ts";

export type Predicate = (object: ApiObject) => boolean;

type Labels = Readonly<Record<string, string>>;

const NAME = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** Parses `a=b,c!=d,e in (f,g),h,!i`; 400 on what cannot be read. undefined when the selector is empty. */
export function parseLabelSelector(text: string): Predicate | undefined {
  const tests = splitTopLevel(text).map((part) => parseRequirement(part.trim(), text));
  if (tests.length === 0) return undefined;
  return (object) => {
    const labels = object.metadata.labels ?? {};
    return tests.every((test) => test(labels));
  };
}

function splitTopLevel(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let part = "";
  for (const character of text) {
    if (character === "(") depth++;
    if (character === ")") depth--;
    if (character === "," && depth === 0) {
      parts.push(part);
      part = "";
    } else part += character;
  }
  if (text.trim() !== "") parts.push(part);
  return parts;
}

function parseRequirement(part: string, whole: string): (labels: Labels) => boolean {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(part);
  if (set !== null) {
    const [, key = "", operator, list = ""] = set;
    const values = list.split(",").map((value) => value.trim());
    checkName(key, whole);
    for (const value of values) checkValue(value, whole);
    return operator === "in" ? (labels) => has(labels, key) && values.includes(labels[key] ?? "") : (labels) => !has(labels, key) || !values.includes(labels[key] ?? "");
  }
  const equality = /^([^=!\s]+)\s*(==|=|!=)\s*(\S*)$/.exec(part);
  if (equality !== null) {
    const [, key = "", operator, value = ""] = equality;
    checkName(key, whole);
    checkValue(value, whole);
    return operator === "!=" ? (labels) => labels[key] !== value || !has(labels, key) : (labels) => has(labels, key) && labels[key] === value;
  }
  const bare = /^(!?)\s*([^\s=!()]+)$/.exec(part);
  if (bare !== null) {
    const [, not, key = ""] = bare;
    checkName(key, whole);
    return not === "!" ? (labels) => !has(labels, key) : (labels) => has(labels, key);
  }
  throw badRequest(`unable to parse requirement: found '${firstUnexpected(part)}', expected: identifier`);
}

function firstUnexpected(part: string): string {
  return /^[=!<>(),]+/.exec(part)?.[0] ?? part;
}

function has(labels: Labels, key: string): boolean {
  return Object.hasOwn(labels, key);
}

function checkName(key: string, whole: string): void {
  if (!NAME.test(key)) throw badRequest(`unable to parse requirement: key ${JSON.stringify(key)} of the selector ${JSON.stringify(whole)} is not a qualified name`);
}

function checkValue(value: string, whole: string): void {
  if (!VALUE.test(value)) throw badRequest(`unable to parse requirement: value ${JSON.stringify(value)} of the selector ${JSON.stringify(whole)} is not a label value`);
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
  if (field === "metadata.namespace" && (type.namespaced || type.builtIn)) return (object) => object.metadata.namespace ?? "";
  const read = Object.hasOwn(type.selectableFields, field) ? type.selectableFields[field] : undefined;
  if (read === undefined) throw badRequest(`field label not supported: ${field}`);
  return read;
}

/** Both selectors of a request as one predicate; undefined selects everything. */
export function parseSelectors(query: URLSearchParams, type: ResourceType): Predicate | undefined {
  const labels = parseLabelSelector(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "", type);
  if (labels === undefined || fields === undefined) return labels ?? fields;
  return (object) => labels(object) && fields(object);
}
