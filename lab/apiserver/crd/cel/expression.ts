/**
 * Expression: one expression in CEL, compiled as Kubernetes compiles it: checked for types, for literals that their functions refuse, and for
 * lists and maps of several types.
 *
 * What the compiler says is the library's. Source: apiserver pkg/cel/environment/base.go; cel-go cel/validator.go.
 */
import type { ASTNode, Environment, ParseResult } from "@marcbachmann/cel-js";
import { compilePattern } from "../../../../src/model/schema/pattern.ts";
import { nameOf, sourceForLibrary, withoutPrefix } from "./source.ts";

/** The program and the name of its type; throws what is wrong. */
export function compileExpression(
  scope: Environment,
  expression: string,
): { readonly program: ParseResult; readonly type: string } {
  const program = scope.parse(sourceForLibrary(expression));
  const checked = program.check();
  if (!checked.valid) throw checked.error ?? new Error("does not compile");
  checkNode(scope, program.ast);
  return { program, type: String(checked.type) };
}

/** Throws for a literal that its function refuses, and for a list or a map whose parts are of several types, except among what `format` is given. */
function checkNode(scope: Environment, ast: ASTNode): void {
  someNode(ast, (node) => {
    if (node.op === "call" && CONSTANT.has(node.args[0]) && node.args[1].length === 1 && isLiteral(node.args[1][0]))
      scope.evaluate(node.input.slice(node.start, node.end));
    if (node.op === "list") checkSameType(node.args);
    if (node.op === "map") for (const part of [0, 1] as const) checkSameType(node.args.map((entry) => entry[part]));
    if (node.op !== "rcall") return false;
    const [name, receiver, args] = node.args;
    const [pattern] = args;
    if (name === nameOf("matches") && pattern?.op === "value" && typeof pattern.args === "string")
      checkPattern(pattern.args);
    if (name !== "format") return false;
    checkNode(scope, receiver);
    return "skip";
  });
}

/** Functions that Kubernetes calls while it compiles, when what they are given is written in the expression. */
const CONSTANT: ReadonlySet<string> = new Set(
  ["int", "uint", "double", "bool", "string", "bytes", "timestamp", "duration"].map(nameOf),
);

function isLiteral(node: ASTNode | undefined): boolean {
  return node?.op === "value" || (node?.op === "-_" && node.args.op === "value");
}

/** Empty lists and maps, and optional values without one, go with any of their kind. */
function checkSameType(nodes: readonly ASTNode[]): void {
  const known = nodes.map(typeNameOf).filter((name) => name !== undefined && !/\b[A-Z]\b/.test(name));
  const other = known.find((name) => name !== known[0]);
  if (other !== undefined) throw new Error(`expected type '${known[0]}' but found '${other}'`);
}

/** As the library's checker left it at the node. */
function typeNameOf(node: ASTNode): string | undefined {
  const type: unknown = "checkedType" in node ? node.checkedType : undefined;
  return typeof type === "object" && type !== null && "name" in type && typeof type.name === "string"
    ? type.name
    : undefined;
}

function checkPattern(pattern: string): void {
  try {
    compilePattern(pattern);
  } catch {
    throw new Error(`invalid matches argument: ${JSON.stringify(pattern)} is no regular expression`);
  }
}

/** The words of an error of the library or of a function, without the library's picture of where it is, and beginning small as Kubernetes' do. */
export function summaryOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return withoutPrefix(
    "summary" in error && typeof error.summary === "string"
      ? `${error.summary.slice(0, 1).toLowerCase()}${error.summary.slice(1)}`
      : error.message,
  );
}

/** Whether the test holds for a node of the tree; it is tried on each until then, and not below one that it skips. */
export function someNode(ast: unknown, test: (node: ASTNode) => boolean | "skip"): boolean {
  if (Array.isArray(ast)) return ast.some((part) => someNode(part, test));
  if (!isNode(ast)) return false;
  const found = test(ast);
  return found === "skip" ? false : found || someNode(ast.args, test);
}

function isNode(value: unknown): value is ASTNode {
  return typeof value === "object" && value !== null && "op" in value && "args" in value;
}
