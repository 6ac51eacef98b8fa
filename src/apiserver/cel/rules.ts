/**
 * Rules: the `x-kubernetes-validations` of one schema, compiled where they stand, with what is wrong with them in kube-apiserver's words.
 *
 * Costs are not estimated. Source: apiextensions-apiserver pkg/apis/apiextensions/validation and pkg/apiserver/schema/cel/compilation.go.
 */
import type { Environment } from "@marcbachmann/cel-js";
import type { FieldError } from "../../model/schema/field-error.ts";
import type { Schema, ValidationRule } from "../../model/schema/schema.ts";
import { type Declared, Declarations, withIdentity } from "./declare.ts";
import { compileExpression, type Expression, newEnvironment } from "./expression.ts";

export interface Rule {
  readonly source: ValidationRule;
  readonly test: Expression;
  readonly message: Expression | undefined;
  /** Appended to the path of the value: `.cidr`, `[key]`; empty when the error belongs to the value itself. */
  readonly fieldPath: string;
}

/** A place of the schema that has rules at or below it. */
export interface RuleNode {
  readonly schema: Schema;
  readonly declared: Declared | undefined;
  readonly rules: readonly Rule[];
  readonly properties: ReadonlyMap<string, RuleNode>;
  readonly items: RuleNode | undefined;
  readonly additional: RuleNode | undefined;
}

export interface CompiledRules {
  /** undefined when the schema has no rules. */
  readonly root: RuleNode | undefined;
  /** What refuses a definition with this schema. */
  readonly errors: readonly FieldError[];
}

/** Compiles the rules of an object's whole schema, which must be structural. `path` is the schema's own, for errors. */
export function compileRules(schema: Schema, path: string): CompiledRules {
  if (!hasRules(schema)) return { root: undefined, errors: [] };
  const compiler = new Compiler();
  const root = compiler.node(withIdentity(schema), path, undefined);
  return { root, errors: compiler.errors };
}

function hasRules(schema: Schema): boolean {
  const additional = schema.additionalProperties;
  return (
    (schema["x-kubernetes-validations"] ?? []).length > 0 ||
    Object.values(schema.properties ?? {}).some(hasRules) ||
    (schema.items !== undefined && hasRules(schema.items)) ||
    (typeof additional === "object" && hasRules(additional))
  );
}

class Compiler {
  readonly errors: FieldError[] = [];
  readonly #environment = newEnvironment();
  readonly #declarations = new Declarations(this.#environment);
  readonly #pending: (() => void)[] = [];

  /** `uncorrelatable` is the path of the list whose items cannot be told apart across an update; undefined outside of such. */
  node(schema: Schema, path: string, uncorrelatable: string | undefined): RuleNode | undefined {
    const found = this.#node(schema, path, uncorrelatable);
    // The first clone closes the environment, so all types come before all rules.
    for (const compile of this.#pending) compile();
    return found;
  }

  #node(schema: Schema, path: string, uncorrelatable: string | undefined): RuleNode | undefined {
    if (!hasRules(schema)) return undefined;
    const sources = schema["x-kubernetes-validations"] ?? [];
    const declared = sources.length > 0 ? this.#declarations.of(schema) : undefined;
    const rules: Rule[] = [];
    if (sources.length > 0) this.#pending.push(() => rules.push(...this.#rules(schema, declared, `${path}.x-kubernetes-validations`, uncorrelatable)));
    const below = uncorrelatable ?? (schema["x-kubernetes-map-type"] === "atomic" ? path : undefined);
    const properties = new Map<string, RuleNode>();
    for (const [field, child] of Object.entries(schema.properties ?? {})) {
      const node = this.#node(child, `${path}.properties[${field}]`, below);
      if (node !== undefined) properties.set(field, node);
    }
    const ofItems = below ?? (schema["x-kubernetes-list-type"] === "map" ? undefined : path);
    const items = schema.items === undefined ? undefined : this.#node(schema.items, `${path}.items`, ofItems);
    const additional = typeof schema.additionalProperties === "object" ? this.#node(schema.additionalProperties, `${path}.additionalProperties`, below) : undefined;
    return { schema, declared, rules, properties, items, additional };
  }

  #rules(schema: Schema, declared: Declared | undefined, path: string, uncorrelatable: string | undefined): Rule[] {
    if (declared === undefined) {
      this.errors.push({ field: path, reason: "Forbidden", value: undefined, detail: "rules need a value whose type the schema declares" });
      return [];
    }
    const plain = this.#environment.clone().registerVariable("self", declared.type);
    const withOld = plain.clone().registerVariable("oldSelf", declared.type);
    const withOptional = plain.clone().registerVariable("oldSelf", `optional<${declared.type}>`);
    return (schema["x-kubernetes-validations"] ?? []).flatMap((source, index) => {
      const at = `${path}[${index}]`;
      const rule = this.#rule(schema, source, at, source.optionalOldSelf === true ? withOptional : withOld);
      if (rule === undefined) return [];
      if (rule.test.usesOldSelf && uncorrelatable !== undefined) {
        this.errors.push({ field: `${at}.rule`, reason: "Invalid", value: source.rule, detail: `oldSelf cannot be used on the uncorrelatable portion of the schema within ${uncorrelatable}` });
      }
      return [rule];
    });
  }

  #rule(schema: Schema, source: ValidationRule, at: string, environment: Environment): Rule | undefined {
    const shape = checkShape(schema, source, at);
    this.errors.push(...shape.errors);
    if (shape.errors.length > 0) return undefined;
    const test = compileExpression(environment, source.rule, "bool");
    if (!test.ok) this.errors.push({ field: `${at}.rule`, reason: "Invalid", value: shownRule(source), detail: test.error });
    if (source.optionalOldSelf !== undefined && !(test.ok && test.value.usesOldSelf)) {
      this.errors.push({ field: `${at}.optionalOldSelf`, reason: "Invalid", value: source.optionalOldSelf, detail: "may not be set if oldSelf is not used in rule" });
    }
    const text = source.messageExpression ?? "";
    const message = text.trim() === "" ? undefined : compileExpression(environment, text, "string");
    if (message?.ok === false) {
      const detail = message.error.startsWith("compilation failed") ? `messageExpression ${message.error}` : message.error;
      this.errors.push({ field: `${at}.messageExpression`, reason: "Invalid", value: shownRule(source), detail });
    }
    if (!test.ok) return undefined;
    return { source, test: test.value, message: message?.ok === true ? message.value : undefined, fieldPath: shape.fieldPath };
  }
}

/** The rule as kube-apiserver prints it. */
function shownRule(source: ValidationRule): Readonly<Record<string, unknown>> {
  const { rule, message = "", messageExpression = "", reason = null, fieldPath = "", optionalOldSelf = null } = source;
  return { Rule: rule, Message: message, MessageExpression: messageExpression, Reason: reason, FieldPath: fieldPath, OptionalOldSelf: optionalOldSelf };
}

const REASONS = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

function checkShape(schema: Schema, source: ValidationRule, at: string): { readonly errors: readonly FieldError[]; readonly fieldPath: string } {
  const errors: FieldError[] = [];
  const { rule = "", message = "", messageExpression = "", reason, fieldPath = "" } = source;
  const complain = (field: string, kind: FieldError["reason"], value: unknown, detail: string): void => void errors.push({ field: `${at}.${field}`, reason: kind, value, detail });
  if (rule.trim() === "") complain("rule", "Required", undefined, "rule is not specified");
  if (message !== "" && message.trim() === "") complain("message", "Invalid", message, "must be non-empty if specified");
  else if (/[\r\n]/.test(message.trim())) complain("message", "Invalid", message, "must not contain line breaks");
  else if (/[\r\n]/.test(rule.trim()) && message === "") complain("message", "Required", undefined, "message must be specified if rule contains line breaks");
  if (messageExpression !== "" && messageExpression.trim() === "") complain("messageExpression", "Required", undefined, "messageExpression must be non-empty if specified");
  if (reason !== undefined && !REASONS.includes(reason)) complain("reason", "NotSupported", reason, REASONS.map((word) => JSON.stringify(word)).join(", "));
  if (fieldPath === "") return { errors, fieldPath: "" };
  if (fieldPath.trim() === "") complain("fieldPath", "Invalid", fieldPath, "must be non-empty if specified");
  const resolved = resolveFieldPath(schema, fieldPath);
  if (resolved === undefined) complain("fieldPath", "Invalid", fieldPath, "must be a valid path");
  return { errors, fieldPath: resolved ?? "" };
}

/** `.a['b']` as a suffix of a field path; undefined when the schema has no such field. */
function resolveFieldPath(schema: Schema, text: string): string | undefined {
  let at: Schema = schema;
  let resolved = "";
  let rest = text;
  while (rest !== "") {
    const match = /^(?:\.([A-Za-z_][\w-]*)|\['([^']+)'\]|\["([^"]+)"\])/.exec(rest);
    if (match === null) return undefined;
    rest = rest.slice(match[0].length);
    const name = match[1] ?? match[2] ?? match[3] ?? "";
    const property = at.properties !== undefined && Object.hasOwn(at.properties, name) ? at.properties[name] : undefined;
    if (property !== undefined) resolved += `.${name}`;
    else if (typeof at.additionalProperties === "object") resolved += `[${name}]`;
    else return undefined;
    at = property ?? (typeof at.additionalProperties === "object" ? at.additionalProperties : {});
  }
  return resolved;
}
