/**
 * Expression: one text of CEL, compiled against an environment, refused in cel-go's words, or evaluated.
 *
 * The library checks less than Kubernetes in three places, and these are closed here: the fields that `has()` names, constant
 * regular expressions, and `cel.bind`, which Kubernetes does not have.
 */
import { Environment } from "@marcbachmann/cel-js";
import { fail, ok, type Result } from "../../lib/result.ts";
import { declareLibrary, regularExpression, REPLACED } from "./library.ts";
import { declareNetwork } from "./network.ts";

export interface Expression {
  readonly usesOldSelf: boolean;
  /** Throws when the expression cannot be evaluated; the message is in Kubernetes' words. */
  readonly evaluate: (variables: Readonly<Record<string, unknown>>) => unknown;
}

/** A node of the library's syntax tree, as far as it is read here. */
interface Node {
  readonly op: string;
  readonly args: unknown;
  readonly start: number;
  readonly end: number;
  readonly setMeta: (key: string, value: unknown) => Node;
}

/** What the library hands to a macro. */
interface Checker {
  readonly check: (node: Node, context: unknown) => unknown;
  readonly getType: (name: string) => unknown;
}

interface Evaluator {
  readonly run: (node: Node, context: unknown) => unknown;
  readonly debugType: (value: unknown) => { readonly fieldLazy: (value: unknown, field: string, node: Node, evaluator: Evaluator) => unknown };
}

let base: Environment | undefined;

/** A new environment with all functions; types and variables are the caller's to add. */
export function newEnvironment(): Environment {
  if (base === undefined) {
    base = new Environment({ enableOptionalTypes: true });
    declareNetwork(base);
    declareLibrary(base);
  }
  return base.clone();
}

let names: ReadonlySet<string> | undefined;

function functionNames(): ReadonlySet<string> {
  names ??= new Set(newEnvironment().getDefinitions().functions.map((entry) => entry.name));
  return names;
}

/** Compiles the text; `wanted` is its type. The error is what Kubernetes puts behind "Invalid value: …:". */
export function compileExpression(environment: Environment, text: string, wanted: "bool" | "string"): Result<Expression, string> {
  let parsed: ReturnType<Environment["parse"]>;
  try {
    parsed = environment.parse(text);
  } catch (error) {
    return fail(`compilation failed: ${pointAt(text, Number(fieldOf(fieldOf(error, "range"), "start") ?? 0), `Syntax error: ${summaryOf(error)}`)}`);
  }
  const root = parsed.ast as unknown as Node;
  const problem = prepare(root, text);
  if (problem !== undefined) return fail(`compilation failed: ${problem}`);
  const checked = parsed.check();
  if (!checked.valid) return fail(`compilation failed: ${describe(text, checked.error)}`);
  if (checked.type !== wanted && checked.type !== "dyn") return fail(wanted === "bool" ? "cel expression must evaluate to a bool" : "messageExpression must evaluate to a string");
  return ok({ usesOldSelf: mentions(root, "oldSelf"), evaluate: (variables) => evaluate(parsed, variables) });
}

function evaluate(parsed: (context: Record<string, unknown>) => unknown, variables: Readonly<Record<string, unknown>>): unknown {
  try {
    return parsed({ ...variables });
  } catch (error) {
    const text = summaryOf(error);
    const index = /^No such key: index out of bounds, index (-?\d+)/.exec(text);
    throw new Error(index === null ? text.replace(/^No such key/, "no such key") : `index out of bounds: ${index[1]}`, { cause: error });
  }
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "op" in value && "args" in value;
}

function childrenOf(node: Node): Node[] {
  const found: Node[] = [];
  const collect = (value: unknown): void => {
    if (isNode(value)) found.push(value);
    else if (Array.isArray(value)) value.forEach(collect);
  };
  collect(node.args);
  return found;
}

function mentions(node: Node, name: string): boolean {
  return (node.op === "id" && node.args === name) || childrenOf(node).some((child) => mentions(child, name));
}

/** Puts our functions where the library's would be called; what is wrong with the expression beyond the library's checks. */
function prepare(node: Node, text: string): string | undefined {
  for (const child of childrenOf(node)) {
    const problem = prepare(child, text);
    if (problem !== undefined) return problem;
  }
  if (!Array.isArray(node.args)) return undefined;
  const [name, first, second]: readonly unknown[] = node.args;
  if (node.op === "call" && name === "has" && Array.isArray(first) && isNode(first[0])) return prepareHas(node, first[0], text);
  if (node.op !== "rcall" || !isNode(first)) return undefined;
  if (first.op === "id" && first.args === "cel") return pointAt(text, first.start, "undeclared reference to 'cel' (in container '')");
  const replacement = REPLACED.get(String(name));
  if (replacement !== undefined) node.args[0] = replacement;
  const source: unknown = Array.isArray(second) ? second[0] : undefined;
  return name === "matches" && isNode(source) ? checkPattern(source, text) : undefined;
}

function checkPattern(source: Node, text: string): string | undefined {
  if (source.op !== "value" || typeof source.args !== "string") return undefined;
  try {
    regularExpression(source.args);
    return undefined;
  } catch {
    return pointAt(text, source.start, "invalid matches argument");
  }
}

/** `has(a.b)`: the field must be declared, and `a` may be any expression. */
function prepareHas(call: Node, argument: Node, text: string): string | undefined {
  if (argument.op === ".?") return undefined;
  if (argument.op !== "." || !Array.isArray(argument.args) || !isNode(argument.args[0])) return pointAt(text, argument.start, "invalid argument to has() macro");
  const [receiver, field]: readonly unknown[] = argument.args;
  const owner = receiver as Node;
  call.setMeta("macro", {
    async: false,
    typeCheck: (checker: Checker, _: unknown, context: unknown) => {
      try {
        checker.check(argument, context);
      } catch (error) {
        if (fieldOf(error, "code") !== "no_such_key" || fieldOf(error, "node") !== argument) throw error;
        throw new HasError(pointAt(text, openingOf(text, call.start, "has"), `undefined field '${String(field)}'`));
      }
      return checker.getType("bool");
    },
    evaluate: (evaluator: Evaluator, _: unknown, context: unknown) => {
      const value = evaluator.run(owner, context);
      return evaluator.debugType(value).fieldLazy(value, String(field), argument, evaluator) !== undefined;
    },
  });
  return undefined;
}

/** A refusal that is in its final words already. */
class HasError extends Error {}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && name in value ? (value as Record<string, unknown>)[name] : undefined;
}

function summaryOf(error: unknown): string {
  const summary = fieldOf(error, "summary");
  return typeof summary === "string" ? summary : error instanceof Error ? error.message : String(error);
}

/** `ERROR: <input>:1:5: MESSAGE` with the line and a mark below, as cel-go prints it. */
function pointAt(text: string, offset: number, message: string): string {
  const before = text.slice(0, offset).split("\n");
  const column = before.at(-1)?.length ?? 0;
  const line = text.split("\n")[before.length - 1] ?? "";
  return `ERROR: <input>:${before.length}:${column + 1}: ${message}\n | ${line}\n | ${".".repeat(column)}^`;
}

function openingOf(text: string, start: number, name: string): number {
  const at = text.indexOf("(", start + name.length);
  return at < 0 ? start : at;
}

function describe(text: string, error: unknown): string {
  if (error instanceof HasError) return error.message;
  const node = fieldOf(error, "node");
  if (!isNode(node)) return pointAt(text, 0, summaryOf(error));
  return pointAt(text, positionOf(node, text), wordsOf(error, node));
}

/** Where cel-go puts the blame: at the dot, the bracket, the operator or the opening parenthesis. */
function positionOf(node: Node, text: string): number {
  const args: readonly unknown[] = Array.isArray(node.args) ? node.args : [];
  const [first, second] = args;
  if (node.op === "call") return openingOf(text, node.start, String(first));
  if (node.op === "rcall" && isNode(second)) return openingOf(text, text.indexOf(".", second.end), "");
  if (!isNode(first)) return node.start;
  const after = text.slice(first.end);
  if (node.op === "?:") return first.end + after.indexOf("?");
  if (node.op === "." || node.op === ".?") return first.end + after.indexOf(".");
  if (node.op === "[]" || node.op === "[?]") return first.end + after.indexOf("[");
  return isNode(second) && node.op !== "list" ? first.end + after.indexOf(node.op) : node.start;
}

const GO_OPERATORS: Readonly<Record<string, string>> = { "!_": "!_", "-_": "-_", in: "@in" };

function goType(type: string): string {
  return type.trim().replace(/^optional</, "optional_type<").replaceAll("<", "(").replaceAll(">", ")");
}

/** The library's complaint in cel-go's words; as it is where cel-go has no such one. */
function wordsOf(error: unknown, node: Node): string {
  const summary = summaryOf(error);
  const operands = /^no such overload: (.+)$/.exec(summary)?.[1];
  const called = /^found no matching overload for '(?:(.+)\.)?(\w+)\((.*)\)'$/.exec(summary);
  if (operands !== undefined) return `found no matching overload for '${GO_OPERATORS[node.op] ?? `_${node.op}_`}' applied to '(${operandTypes(operands, node.op)})'`;
  if (called !== null) {
    const [, receiver, name = "", list = ""] = called;
    if (!functionNames().has(name)) return `undeclared reference to '${name}' (in container '')`;
    const given = [...REPLACED].find(([, by]) => by === name)?.[0] ?? name;
    const receiverType = fieldOf(fieldOf(Array.isArray(node.args) ? node.args[1] : undefined, "checkedType"), "name");
    return `found no matching overload for '${given}' applied to '${receiver === undefined ? "" : `${goType(String(receiverType ?? receiver))}.`}(${goType(list)})'`;
  }
  return summary
    .replace(/^No such key: (.+)$/, "undefined field '$1'")
    .replace(/^Unknown variable: (.+)$/, "undeclared reference to '$1' (in container '')")
    .replace(/^List elements must have the same type, /, "");
}

function operandTypes(text: string, op: string): string {
  return goType(op.endsWith("_") ? text.slice(1) : text.replace(` ${op} `, ", "));
}
