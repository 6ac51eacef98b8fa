/**
 * JsonPath: the part of Kubernetes' JSONPath that printer columns use: `.spec.cidr`, `.items[0].name`, `.a[*].b`,
 * `.metadata.labels.example\.com/x`, `.status.conditions[?(@.type=="Ready")].status`.
 */
import { fail, ok, type ParseError, type Result } from "../../../src/lib/result.ts";
import { arrayAt, fieldAt, isJsonObject, type JsonValue } from "../../../src/model/schema/json.ts";

type Step =
  | { readonly step: "field"; readonly name: string }
  | { readonly step: "index"; readonly index: number }
  | { readonly step: "all" }
  | { readonly step: "filter"; readonly path: readonly string[]; readonly equal: boolean; readonly value: JsonValue };

export type JsonPath = readonly Step[];

const TOKEN =
  /^(?:\.((?:\\.|[^.[\\])+)|\[(\d+|\*)\]|\[['"]([^'"]*)['"]\]|\[\?\(\s*@((?:\.[\w-]+)+)\s*(==|!=)\s*("[^"]*"|'[^']*'|\d+|true|false)\s*\)\])/;

export function parseJsonPath(text: string): Result<JsonPath, ParseError> {
  const steps: Step[] = [];
  let rest = text.replace(/^\{(.*)\}$/, "$1");
  while (rest !== "") {
    const match = TOKEN.exec(rest);
    if (match === null)
      return fail({
        what: "JSON path",
        found: text,
        wanted: `cannot read ${JSON.stringify(rest)}: must be like .spec.field, [0], [*] or [?(@.type=="Ready")]`,
      });
    const [whole, field, index, quoted, path, operator, literal] = match;
    rest = rest.slice(whole.length);
    if (field !== undefined) steps.push({ step: "field", name: field.replace(/\\(.)/g, "$1") });
    else if (quoted !== undefined) steps.push({ step: "field", name: quoted });
    else if (index !== undefined) steps.push(index === "*" ? { step: "all" } : { step: "index", index: Number(index) });
    else
      steps.push({
        step: "filter",
        path: (path ?? "").slice(1).split("."),
        equal: operator === "==",
        value: parseLiteral(literal ?? ""),
      });
  }
  return ok(steps);
}

function parseLiteral(text: string): JsonValue {
  if (text.startsWith("'") || text.startsWith('"')) return text.slice(1, -1);
  return text === "true" ? true : text === "false" ? false : Number(text);
}

/** All values at the path, in document order. */
export function readJsonPath(path: JsonPath, root: JsonValue): JsonValue[] {
  let values: JsonValue[] = [root];
  for (const step of path) values = values.flatMap((value) => follow(step, value));
  return values;
}

function follow(step: Step, value: JsonValue): JsonValue[] {
  switch (step.step) {
    case "field": {
      const child = fieldAt(value, step.name);
      return child === undefined ? [] : [child];
    }
    case "index": {
      const child = arrayAt(value)[step.index];
      return child === undefined ? [] : [child];
    }
    case "all":
      return Array.isArray(value) ? value : isJsonObject(value) ? Object.values(value) : [];
    case "filter":
      return arrayAt(value).filter((entry) => (fieldAt(entry, ...step.path) === step.value) === step.equal);
  }
}
