/**
 * Validator: the rules (`x-kubernetes-validations`) of a whole schema, compiled once and held against objects.
 *
 * A transition rule, one that reads `oldSelf`, runs where an old value exists. Any other rule that fails is forgiven on updates where the
 * value that it judges has not changed. Not here: limits on what a rule may cost.
 * Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go, pkg/apis/apiextensions/validation.
 */
import type { Environment } from "@marcbachmann/cel-js";
import type { FieldError } from "../../../../src/model/schema/field-error.ts";
import { fieldAt, isJsonObject, jsonEquals, type JsonValue } from "../../../../src/model/schema/json.ts";
import type { Schema } from "../../../../src/model/schema/schema.ts";
import { childPath } from "../../../../src/model/schema/validate.ts";
import { summaryOf } from "./expression.ts";
import { checkRule, compileRule, failureOf, type Rule } from "./rule.ts";
import { type CelType, TypeDeclarations } from "./types.ts";

/** The rules of one place in a schema and below it. */
interface Place {
  /** Where values are, without what only nested schemas say. */
  readonly schema: Schema;
  readonly type: CelType;
  readonly rules: readonly Rule[];
  /** Words for each rule that does not compile: nothing passes it. */
  readonly broken: readonly string[];
  /** Rules that `allOf` holds for the same place. */
  readonly all: readonly Place[];
  readonly properties: ReadonlyMap<string, Place>;
  /** Of the items of a list or the values of a map. */
  readonly element: Place | undefined;
}

export interface CompiledRules {
  /** undefined: there are no rules. */
  readonly check: ((value: JsonValue, old: JsonValue | undefined) => FieldError[]) | undefined;
  /** What keeps rules from being used, by their place in the definition. */
  readonly problems: readonly FieldError[];
}

/** All rules of a structural schema of a whole resource; `path` is the schema's place in its definition. */
export function compileRules(schema: Schema, path: string): CompiledRules {
  if (!hasRules(schema)) return { check: undefined, problems: [] };
  const declarations = new TypeDeclarations();
  const type = declarations.declare(schema, true);
  const compiler = new Compiler(declarations.environment);
  const place = type === undefined ? undefined : compiler.compile(schema, schema, type, path, undefined);
  const check =
    place === undefined
      ? undefined
      : (value: JsonValue, old: JsonValue | undefined): FieldError[] => {
          const errors: FieldError[] = [];
          run(place, value, { path: "", old, unchanged: old !== undefined && jsonEquals(value, old) }, errors);
          return errors;
        };
  return { check, problems: compiler.problems };
}

function hasRules(schema: unknown): boolean {
  if (Array.isArray(schema)) return schema.some(hasRules);
  if (typeof schema !== "object" || schema === null) return false;
  return "x-kubernetes-validations" in schema || Object.values(schema).some(hasRules);
}

class Compiler {
  readonly #environment: Environment;
  readonly problems: FieldError[] = [];

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** `schema` holds the rules, `spine` the values' shape: they differ inside `allOf`. `uncorrelated`: the list or map that new and old values cannot be matched below. */
  compile(
    schema: Schema,
    spine: Schema,
    type: CelType,
    path: string,
    uncorrelated: string | undefined,
  ): Place | undefined {
    const { rules, broken } = this.#compileHere(schema, spine, type, path, uncorrelated);
    const all = (schema.allOf ?? [])
      .map((part, index) => this.compile(part, spine, type, `${path}.allOf[${index}]`, uncorrelated))
      .filter((place) => place !== undefined);
    const properties = new Map<string, Place>();
    const below = uncorrelated ?? (spine["x-kubernetes-map-type"] === "atomic" ? path : undefined);
    for (const [field, rule] of Object.entries(schema.properties ?? {})) {
      const [shape, fieldType] = [spine.properties?.[field], type.fields?.get(field)];
      const place =
        shape === undefined || fieldType === undefined
          ? undefined
          : this.compile(rule, shape, fieldType, `${path}.properties[${field}]`, below);
      if (place !== undefined) properties.set(field, place);
    }
    const element = this.#compileElement(schema, spine, type, path, uncorrelated);
    if (rules.length + broken.length + all.length + properties.size === 0 && element === undefined) return undefined;
    return { schema: spine, type, rules, broken, all, properties, element };
  }

  #compileElement(
    schema: Schema,
    spine: Schema,
    type: CelType,
    path: string,
    uncorrelated: string | undefined,
  ): Place | undefined {
    if (type.element === undefined) return undefined;
    const atomic = spine["x-kubernetes-list-type"] === "map" ? undefined : path;
    if (schema.items !== undefined && spine.items !== undefined)
      return this.compile(schema.items, spine.items, type.element, `${path}.items`, uncorrelated ?? atomic);
    const [rule, shape] = [schema.additionalProperties, spine.additionalProperties];
    return typeof rule === "object" && typeof shape === "object"
      ? this.compile(rule, shape, type.element, `${path}.additionalProperties`, uncorrelated)
      : undefined;
  }

  #compileHere(
    schema: Schema,
    spine: Schema,
    type: CelType,
    path: string,
    uncorrelated: string | undefined,
  ): Pick<Place, "rules" | "broken"> {
    const rules: Rule[] = [];
    const broken: string[] = [];
    (schema["x-kubernetes-validations"] ?? []).forEach((entry, index) => {
      const at = `${path}.x-kubernetes-validations[${index}]`;
      const value: JsonValue = { ...entry };
      const problems = checkRule(value, spine, at);
      const { rule, errors } =
        problems.length > 0
          ? { rule: undefined, errors: problems }
          : compileRule(value, spine, type, this.#environment, at);
      if (rule?.usesOldSelf === true && uncorrelated !== undefined) {
        this.problems.push({
          field: `${at}.rule`,
          reason: "Invalid",
          value: entry.rule,
          detail: `oldSelf cannot be used on the uncorrelatable portion of the schema within ${uncorrelated}`,
        });
      }
      this.problems.push(...errors);
      if (rule === undefined) broken.push(errors.map((error) => error.detail).join(", "));
      else rules.push(rule);
    });
    return { rules, broken };
  }
}

interface Position {
  readonly path: string;
  /** The value that was there; undefined when there was none, or none that could be matched. */
  readonly old: JsonValue | undefined;
  /** Whether the value, or the nearest one around it that can be matched, is what it was. */
  readonly unchanged: boolean;
}

function run(place: Place, value: JsonValue, position: Position, errors: FieldError[]): void {
  if (value === null) return;
  runRules(place, value, position, errors);
  for (const part of place.all) run(part, value, position, errors);
  if (Array.isArray(value)) {
    if (place.element === undefined) return;
    const { element, schema } = place;
    const oldItems = oldItemsOf(schema, position.old);
    value.forEach((item, index) =>
      run(
        element,
        item,
        step(
          position,
          `${position.path}[${index}]`,
          item,
          oldItems === undefined ? undefined : { old: oldItems.get(itemKey(schema, item)) },
        ),
        errors,
      ),
    );
  } else if (isJsonObject(value)) {
    for (const [field, child] of Object.entries(value)) {
      const known = place.properties.get(field);
      const below = known ?? place.element;
      const path = known === undefined ? `${position.path}[${field}]` : childPath(position.path, field);
      if (below !== undefined)
        run(below, child, step(position, path, child, { old: fieldAt(position.old, field) }), errors);
    }
  }
}

/** `match`: what the old value of the child is; undefined when old and new cannot be matched there. */
function step(
  position: Position,
  path: string,
  child: JsonValue,
  match: { readonly old: JsonValue | undefined } | undefined,
): Position {
  if (match === undefined) return { path, old: undefined, unchanged: position.unchanged };
  return {
    path,
    old: match.old,
    unchanged: position.unchanged || (match.old !== undefined && jsonEquals(child, match.old)),
  };
}

/** Old items of a list of type map, by their keys; undefined for other lists. */
function oldItemsOf(schema: Schema, old: JsonValue | undefined): ReadonlyMap<string, JsonValue> | undefined {
  if (schema["x-kubernetes-list-type"] !== "map") return undefined;
  return new Map((Array.isArray(old) ? old : []).map((item) => [itemKey(schema, item), item]));
}

function itemKey(schema: Schema, item: JsonValue): string {
  return JSON.stringify(
    (schema["x-kubernetes-list-map-keys"] ?? []).map(
      (key) => fieldAt(item, key) ?? schema.items?.properties?.[key]?.default ?? null,
    ),
  );
}

function runRules(place: Place, value: JsonValue, { path, old, unchanged }: Position, errors: FieldError[]): void {
  const field = path === "" ? "<nil>" : path;
  const refuse = (detail: string): void =>
    void errors.push({ field, reason: "Invalid", value: place.schema.type ?? "", detail });
  for (const words of place.broken) refuse(`rule compile error: ${words}`);
  if (place.rules.length === 0) return;
  let self: unknown;
  let oldSelf: unknown;
  try {
    self = place.type.convert(value);
    oldSelf = old === undefined || old === null ? undefined : place.type.convert(old);
  } catch (error) {
    return refuse(summaryOf(error));
  }
  for (const rule of place.rules) {
    if (rule.usesOldSelf && !rule.optionalOldSelf && oldSelf === undefined) continue;
    try {
      const message = rule.run(self, oldSelf);
      if (message !== undefined && (rule.usesOldSelf || !unchanged)) errors.push(errorOf(rule, place, path, message));
    } catch (error) {
      refuse(failureOf(error, rule));
    }
  }
}

function errorOf(rule: Rule, place: Place, path: string, detail: string): FieldError {
  const field = rule.fieldPath === "" ? path : childPath(path, rule.fieldPath);
  return {
    field: field === "" ? "<nil>" : field,
    reason: rule.reason,
    value: rule.reason === "Required" ? undefined : (place.schema.type ?? ""),
    detail,
  };
}
