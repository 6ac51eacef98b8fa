/**
 * Rule: one entry of `x-kubernetes-validations`: read, compiled, run.
 *
 * Words and order of the checks are Kubernetes'.
 * Source: apiextensions-apiserver pkg/apis/apiextensions/validation, pkg/apiserver/schema/cel/{compilation,validation}.go.
 */
import { type Environment, Optional, type ParseResult } from "@marcbachmann/cel-js";
import type { FieldError } from "../../../../src/model/schema/field-error.ts";
import { isJsonObject, type JsonValue, stringAt } from "../../../../src/model/schema/json.ts";
import type { Schema } from "../../../../src/model/schema/schema.ts";
import { compileExpression, someNode, summaryOf } from "./expression.ts";
import type { CelType } from "./types.ts";

export interface Rule {
  /** What names the rule where there is no better text: its message, or the rule itself. */
  readonly text: string;
  readonly usesOldSelf: boolean;
  /** Whether `oldSelf` is an optional value, so that the rule also runs where there is no old one. */
  readonly optionalOldSelf: boolean;
  /** undefined when the object keeps the rule; otherwise the message. Throws what goes wrong. */
  readonly run: (self: unknown, oldSelf: unknown) => string | undefined;
  readonly reason: FieldError["reason"];
  /** `.spec.x` below the place of the rule; "" for the place itself. */
  readonly fieldPath: string;
}

const REASONS: Readonly<Record<string, FieldError["reason"]>> = {
  FieldValueDuplicate: "Duplicate",
  FieldValueForbidden: "Forbidden",
  FieldValueInvalid: "Invalid",
  FieldValueRequired: "Required",
};
const MOST_MESSAGE_BYTES = 5 * 1024;

/** What is wrong with a rule apart from its expressions. */
export function checkRule(entry: JsonValue, schema: Schema, path: string): FieldError[] {
  if (!isJsonObject(entry)) return [{ field: path, reason: "Invalid", value: entry, detail: "must be a rule" }];
  const errors: FieldError[] = [];
  const rule = stringAt(entry["rule"]).trim();
  const given = (field: string): string | undefined =>
    entry[field] === undefined ? undefined : stringAt(entry[field]);
  const message = given("message");
  if (rule === "")
    errors.push({ field: `${path}.rule`, reason: "Required", value: undefined, detail: "rule is not specified" });
  else if (message !== undefined && message.trim() === "")
    errors.push({
      field: `${path}.message`,
      reason: "Invalid",
      value: message,
      detail: "must be non-empty if specified",
    });
  else if (message?.trim().includes("\n") === true)
    errors.push({
      field: `${path}.message`,
      reason: "Invalid",
      value: message,
      detail: "must not contain line breaks",
    });
  else if (rule.includes("\n") && message === undefined)
    errors.push({
      field: `${path}.message`,
      reason: "Required",
      value: undefined,
      detail: "message must be specified if rule contains line breaks",
    });
  if (given("messageExpression")?.trim() === "")
    errors.push({
      field: `${path}.messageExpression`,
      reason: "Required",
      value: undefined,
      detail: "messageExpression must be non-empty if specified",
    });
  const reason = entry["reason"];
  if (reason !== undefined && REASONS[stringAt(reason)] === undefined) {
    errors.push({
      field: `${path}.reason`,
      reason: "NotSupported",
      value: reason,
      detail: Object.keys(REASONS)
        .map((name) => JSON.stringify(name))
        .join(", "),
    });
  }
  const fieldPath = given("fieldPath");
  if (fieldPath !== undefined && resolveFieldPath(fieldPath, schema) === undefined)
    errors.push({ field: `${path}.fieldPath`, reason: "Invalid", value: fieldPath, detail: "must be a valid path" });
  return errors;
}

/** `.a.b`, `['a'].b` as the field path of errors, `a.b`; undefined when the schema has no such field. */
function resolveFieldPath(text: string, schema: Schema): string | undefined {
  if (!/^(?:\.[^.[\]']+|\['(?:[^'\\]|\\.)*'\])+$/.test(text)) return undefined;
  let path = "";
  let at: Schema | undefined = schema;
  for (const [, plain, quoted] of text.matchAll(/\.([^.[\]']+)|\['((?:[^'\\]|\\.)*)'\]/g)) {
    const name = plain ?? (quoted ?? "").replace(/\\(.)/g, "$1");
    const values: Schema | boolean | undefined = at.properties === undefined ? at.additionalProperties : undefined;
    path += values === undefined ? `${path === "" ? "" : "."}${name}` : `[${name}]`;
    at = typeof values === "object" ? values : at.properties?.[name];
    if (at === undefined) return undefined;
  }
  return path;
}

/** The rule, which must have passed `checkRule`, ready to run; or the problems of its expressions. */
export function compileRule(
  entry: JsonValue,
  schema: Schema,
  type: CelType,
  environment: Environment,
  path: string,
): { readonly rule: Rule | undefined; readonly errors: readonly FieldError[] } {
  const field = (name: string): string => (isJsonObject(entry) ? stringAt(entry[name]) : "");
  const optionalOldSelf = isJsonObject(entry) && entry["optionalOldSelf"] === true;
  const scope = environment
    .clone()
    .registerVariable("self", type.name)
    .registerVariable("oldSelf", optionalOldSelf ? `optional<${type.name}>` : type.name);
  const program = compileTo("bool", scope, field("rule"));
  if (typeof program === "string") {
    const detail = program === "" ? "cel expression must evaluate to a bool" : `compilation failed: ${program}`;
    return { rule: undefined, errors: [{ field: `${path}.rule`, reason: "Invalid", value: entry, detail }] };
  }
  const message =
    field("messageExpression") === "" ? undefined : compileTo("string", scope, field("messageExpression"));
  if (typeof message === "string") {
    const detail =
      message === ""
        ? "messageExpression must evaluate to a string"
        : `messageExpression compilation failed: ${message}`;
    return {
      rule: undefined,
      errors: [{ field: `${path}.messageExpression`, reason: "Invalid", value: entry, detail }],
    };
  }
  const usesOldSelf = someNode(program.ast, (node) => node.op === "id" && node.args === "oldSelf");
  if (!usesOldSelf && isJsonObject(entry) && entry["optionalOldSelf"] !== undefined) {
    return {
      rule: undefined,
      errors: [
        {
          field: `${path}.optionalOldSelf`,
          reason: "Invalid",
          value: entry["optionalOldSelf"],
          detail: "may not be set if oldSelf is not used in rule",
        },
      ],
    };
  }
  const text = field("message").trim() || field("rule").trim();
  const usual = field("message").trim() || `failed rule: ${text}`;
  const run = (self: unknown, oldSelf: unknown): string | undefined => {
    const variables = {
      self,
      ...(optionalOldSelf ? { oldSelf: oldSelf === undefined ? Optional.none() : Optional.of(oldSelf) } : { oldSelf }),
    };
    if (program(variables) === true) return undefined;
    return (message === undefined ? undefined : messageFrom(message, variables)) ?? usual;
  };
  const rule = {
    text,
    usesOldSelf,
    optionalOldSelf,
    run,
    reason: REASONS[field("reason")] ?? "Invalid",
    fieldPath: resolveFieldPath(field("fieldPath"), schema) ?? "",
  };
  return { rule, errors: [] };
}

/** The program; a text says why there is none, "" that its type is not the wanted one. */
function compileTo(wanted: "bool" | "string", scope: Environment, expression: string): ParseResult | string {
  try {
    const { program, type } = compileExpression(scope, expression);
    return type === wanted ? program : "";
  } catch (error) {
    return summaryOf(error);
  }
}

/** What an API server says of a rule that fails to run. */
export function failureOf(error: unknown, rule: Rule): string {
  const isOverload =
    error instanceof Error &&
    "code" in error &&
    (error.code === "no_such_overload" || error.code === "no_matching_overload");
  return isOverload
    ? `'no such overload': call arguments did not match a supported operator, function or macro signature for rule: ${rule.text}`
    : `${summaryOf(error)} evaluating rule: ${rule.text}`;
}

/** undefined, so that the rule's own message serves, when the expression fails or gives no usable text. */
function messageFrom(program: ParseResult, variables: Readonly<Record<string, unknown>>): string | undefined {
  try {
    const text = String(program(variables)).trim();
    return text === "" || text.includes("\n") || Buffer.byteLength(text) > MOST_MESSAGE_BYTES ? undefined : text;
  } catch {
    return undefined;
  }
}
