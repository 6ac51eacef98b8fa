/**
 * Template run: executes a Go template over objects. Fields have the names that they have in upstream's Go types (`.ObjectMeta.Name`,
 * `.Spec.CIDR`) or in JSON (`.metadata.name`); a field that is absent is empty.
 */
import { isJsonObject, type JsonValue } from "../../../model/schema/json.ts";
import { callFunction, isTrue, print } from "./functions.ts";
import { type Expression, fault, type Node, parseTemplate, type Pipeline } from "./syntax.ts";

/** Throws Refusal for a template that cannot be read or executed. */
export function runTemplate(source: string, data: JsonValue): string {
  const out: string[] = [];
  run(parseTemplate(source), { dot: data, variables: new Scope(undefined, [["$", data]]) }, out);
  return out.join("");
}

interface Frame {
  readonly dot: JsonValue;
  readonly variables: Scope;
}

class Scope {
  readonly #outer: Scope | undefined;
  readonly #values: Map<string, JsonValue>;

  constructor(outer: Scope | undefined, values: readonly (readonly [string, JsonValue])[] = []) {
    this.#outer = outer;
    this.#values = new Map(values);
  }

  get(name: string): JsonValue {
    const value = this.#values.get(name);
    if (value !== undefined) return value;
    if (this.#outer === undefined) throw fault(`undefined variable ${name}`);
    return this.#outer.get(name);
  }

  declare(name: string, value: JsonValue): void {
    this.#values.set(name, value);
  }

  assign(name: string, value: JsonValue): void {
    if (this.#values.has(name)) this.#values.set(name, value);
    else if (this.#outer === undefined) throw fault(`undefined variable ${name}`);
    else this.#outer.assign(name, value);
  }
}

function run(nodes: readonly Node[], frame: Frame, out: string[]): void {
  for (const node of nodes) {
    if (node.type === "text") out.push(node.text);
    else if (node.type === "print") {
      const value = evaluate(node.pipeline, frame);
      if (node.pipeline.variables.length === 0) out.push(print(value));
    } else branch(node, frame, out);
  }
}

function branch(node: Exclude<Node, { type: "text" | "print" }>, frame: Frame, out: string[]): void {
  const variables = new Scope(frame.variables);
  const inner = { dot: frame.dot, variables };
  if (node.type === "range") return range(node, inner, out);
  const value = evaluate(node.pipeline, inner);
  if (!isTrue(value)) return run(node.otherwise, { dot: frame.dot, variables: new Scope(variables) }, out);
  run(node.body, { dot: node.type === "with" ? value : frame.dot, variables: new Scope(variables) }, out);
}

function range(node: Exclude<Node, { type: "text" | "print" }>, frame: Frame, out: string[]): void {
  const { variables: names } = node.pipeline;
  const value = evaluate({ ...node.pipeline, variables: [] }, frame);
  const entries = entriesOf(value);
  if (entries.length === 0) return run(node.otherwise, frame, out);
  const [first, second] = names;
  for (const [key, item] of entries) {
    const variables = new Scope(frame.variables);
    if (first !== undefined) variables.declare(first, second === undefined ? item : key);
    if (second !== undefined) variables.declare(second, item);
    run(node.body, { dot: item, variables }, out);
  }
}

function entriesOf(value: JsonValue): readonly (readonly [JsonValue, JsonValue])[] {
  if (value === null || value === "") return [];
  if (Array.isArray(value)) return value.map((item, index) => [index, item] as const);
  if (isJsonObject(value)) return Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  throw fault(`range can't iterate over ${print(value)}`);
}

function evaluate({ variables, declares, commands }: Pipeline, frame: Frame): JsonValue {
  let result: JsonValue | undefined;
  for (const command of commands) {
    const piped = result === undefined ? [] : [result];
    if (command.type === "call")
      result = callFunction(command.name, [
        ...command.args.map((argument) => () => valueOf(argument, frame)),
        ...piped.map((value) => () => value),
      ]);
    else if (piped.length > 0) throw fault("a pipeline must go on with a function");
    else result = valueOf(command, frame);
  }
  const value = result ?? null;
  for (const name of variables)
    if (declares) frame.variables.declare(name, value);
    else frame.variables.assign(name, value);
  return value;
}

function valueOf(expression: Expression, frame: Frame): JsonValue {
  switch (expression.type) {
    case "literal":
      return expression.value;
    case "variable":
      return frame.variables.get(expression.name);
    case "pipeline":
      return evaluate(expression.pipeline, frame);
    case "call":
      return callFunction(
        expression.name,
        expression.args.map((argument) => () => valueOf(argument, frame)),
      );
    case "path": {
      const base = expression.of === "dot" ? frame.dot : valueOf(expression.of, frame);
      return expression.fields.reduce<JsonValue>(fieldOf, base);
    }
  }
}

/** Go's names of embedded parts, whose fields are also those of the object itself. */
const EMBEDDED: Readonly<Record<string, string>> = { ObjectMeta: "metadata", ListMeta: "metadata" };

function fieldOf(value: JsonValue, name: string): JsonValue {
  if (value === null || value === "") return "";
  if (!isJsonObject(value)) throw fault(`can't evaluate field ${name} in ${print(value)}`);
  if (name === "TypeMeta") return value;
  const wanted = EMBEDDED[name] ?? name;
  if (Object.hasOwn(value, wanted)) return value[wanted] ?? "";
  const lower = wanted.toLowerCase();
  const found = Object.keys(value).find((key) => key.toLowerCase() === lower);
  if (found !== undefined) return value[found] ?? "";
  const metadata = value["metadata"];
  return isJsonObject(metadata) && value["kind"] !== undefined && wanted !== "metadata"
    ? fieldOf(metadata, wanted)
    : "";
}
