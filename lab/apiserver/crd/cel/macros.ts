/**
 * Macros: `has` on any operand, the macros of two variables, and those of optional values: what the library's own lack.
 *
 * Source: https://github.com/google/cel-spec doc/langdef.md; cel-go ext/comprehensions.go and cel/library.go.
 */
import { type ASTNode, type Environment, Optional } from "@marcbachmann/cel-js";
import { UnsignedInt } from "@marcbachmann/cel-js/evaluator";
import { nameOf } from "./source.ts";
import { entriesOf, isList } from "./values.ts";

/** A type as the library's checker has it. */
interface Type {
  readonly kind: string;
  readonly name: string;
  readonly keyType?: Type;
  readonly valueType?: Type;
  readonly unify: (registry: Registry, other: Type) => Type | null;
}

interface Registry {
  readonly getListType: (element: Type) => Type;
  readonly getMapType: (key: Type, value: Type) => Type;
  readonly getOptionalType: (value: Type) => Type;
}

interface Checker {
  readonly registry: Registry;
  readonly getType: (name: string) => Type;
  readonly check: (node: ASTNode, scope: Scope) => Type;
  readonly checkAccessOnType: (node: ASTNode, scope: Scope, operand: Type) => Type;
  readonly createError: (code: string, message: string, node: ASTNode) => Error;
}

interface Evaluator {
  readonly run: (node: ASTNode, scope: Scope) => unknown;
}

interface Scope {
  readonly forkWithVariable: (name: string, type: Type) => Scope;
  readonly setIterValue: (value: unknown, evaluator: Evaluator) => Scope;
}

interface Call {
  readonly receiver: ASTNode;
  readonly args: readonly ASTNode[];
}

interface Macro {
  readonly async: false;
  readonly typeCheck: (checker: Checker, macro: unknown, scope: Scope) => Type;
  readonly evaluate: (evaluator: Evaluator, macro: unknown, scope: Scope) => unknown;
}

export function registerMacros(environment: Environment): void {
  environment.registerFunction(`${nameOf("has")}(ast): bool`, expandHas, { async: false });
  for (const collection of ["list", "map"]) {
    const add = (signature: string, expand: (call: Call) => Macro): void =>
      void environment.registerFunction(`${collection}.${signature}`, expand, { async: false });
    for (const name of ["all", "exists", "existsOne", "exists_one"] as const)
      add(`${name}(ast, ast, ast): bool`, (call) => expandPair(call, quantifier(name)));
    for (const filtered of ["", ", ast"]) {
      add(`transformList(ast, ast, ast${filtered}): list<dyn>`, (call) => expandPair(call, TRANSFORM_LIST));
      add(`transformMap(ast, ast, ast${filtered}): map<dyn, dyn>`, (call) => expandPair(call, TRANSFORM_MAP));
      add(`transformMapEntry(ast, ast, ast${filtered}): map<dyn, dyn>`, (call) => expandPair(call, TRANSFORM_ENTRY));
    }
  }
  environment.registerFunction("optional.optMap(ast, ast): dyn", (call: Call) => expandOptional(call, false), {
    async: false,
  });
  environment.registerFunction("optional.optFlatMap(ast, ast): dyn", (call: Call) => expandOptional(call, true), {
    async: false,
  });
}

function expandHas({ args }: Call): Macro {
  const [selection] = args;
  return {
    async: false,
    typeCheck: (checker, _, scope) => {
      if (selection === undefined || (selection.op !== "." && selection.op !== ".?"))
        throw new Error("invalid argument to has() macro");
      const operand = checker.check(selection.args[0], scope);
      const type = operand.kind === "optional" && operand.valueType !== undefined ? operand.valueType : operand;
      if (type.kind !== "param") checker.checkAccessOnType(selection, scope, type);
      return checker.getType("bool");
    },
    evaluate: (evaluator, _, scope) => {
      if (selection === undefined || (selection.op !== "." && selection.op !== ".?")) return false;
      const operand = evaluator.run(selection.args[0], scope);
      const [, field] = selection.args;
      if (!(operand instanceof Optional)) return hasField(operand, field);
      return operand.hasValue() && hasField(operand.value(), field);
    },
  };
}

function hasField(operand: unknown, field: string): boolean {
  if (operand instanceof Map) return operand.has(field);
  return typeof operand === "object" && operand !== null && Object.hasOwn(operand, field);
}

/** What a macro of two variables makes of the key and the value of each entry. */
interface PairMacro {
  /** The type of the whole, from those of the keys and of the expression. */
  readonly type: (checker: Checker, key: Type, step: Type) => Type;
  readonly run: (entries: readonly Entry[]) => unknown;
}

interface Entry {
  readonly key: unknown;
  /** Whether the filter, if there is one, lets the entry pass. */
  readonly passes: () => boolean;
  /** The value of the expression. */
  readonly step: () => unknown;
}

function expandPair({ receiver, args }: Call, macro: PairMacro): Macro {
  const [first, second, ...rest] = args;
  const [filter, step] = rest.length === 2 ? rest : [undefined, rest[0]];
  let types: readonly [Type, Type] | undefined;
  const names = (): readonly [string, string] => {
    if (first?.op !== "id" || second?.op !== "id") throw new Error("argument must be a simple name");
    return [first.args, second.args];
  };
  const inner = (scope: Scope, [key, value]: readonly [Type, Type]): readonly [Scope, Scope] => {
    const outer = scope.forkWithVariable(names()[0], key);
    return [outer, outer.forkWithVariable(names()[1], value)];
  };
  return {
    async: false,
    typeCheck: (checker, _, scope) => {
      types = entryTypes(checker, receiver, checker.check(receiver, scope));
      const [, both] = inner(scope, types);
      if (filter !== undefined) requireBool(checker, filter, checker.check(filter, both));
      if (step === undefined) throw new Error("missing argument");
      const type = checker.check(step, both);
      if (macro.type === boolType) requireBool(checker, step, type);
      return macro.type(checker, types[0], type);
    },
    evaluate: (evaluator, _, scope) => {
      if (types === undefined || step === undefined) throw new Error("not checked");
      const known = types;
      const entries = pairsOf(evaluator.run(receiver, scope), known[0].name).map(([key, value]): Entry => {
        const [outer, both] = inner(scope, known);
        const at = (node: ASTNode): unknown => {
          outer.setIterValue(key, evaluator);
          return evaluator.run(node, both.setIterValue(value, evaluator));
        };
        return { key, passes: () => filter === undefined || at(filter) === true, step: () => at(step) };
      });
      return macro.run(entries);
    },
  };
}

function boolType(checker: Checker): Type {
  return checker.getType("bool");
}

function requireBool(checker: Checker, node: ASTNode, type: Type): void {
  if (type.kind !== "dyn" && type.name !== "bool")
    throw checker.createError("invalid_condition_type", `expected type 'bool' but found '${type.name}'`, node);
}

function entryTypes(checker: Checker, node: ASTNode, type: Type): readonly [Type, Type] {
  const known = (part: Type | undefined): Type =>
    part === undefined || part.kind === "param" ? checker.getType("dyn") : part;
  if (type.kind === "list") return [checker.getType("int"), known(type.valueType)];
  if (type.kind === "map" || type.kind === "dyn") return [known(type.keyType), known(type.valueType)];
  throw checker.createError(
    "invalid_comprehension_range",
    `expression of type '${type.name}' cannot be range of a comprehension (must be list, map, or dynamic)`,
    node,
  );
}

function pairsOf(collection: unknown, keyType: string): [unknown, unknown][] {
  if (isList(collection)) return [...collection].map((item, index) => [BigInt(index), item]);
  const entries = entriesOf(collection);
  if (entries === undefined) throw new Error("no such overload");
  return entries.map(([key, value]) => [keyOf(key, keyType), value]);
}

/** A key in its own type: the library keeps those of maps that are written in an expression as text. */
function keyOf(key: unknown, type: string): unknown {
  if (typeof key !== "string") return key;
  if (type === "int") return BigInt(key);
  if (type === "uint") return new UnsignedInt(BigInt(key));
  return type === "bool" ? key === "true" : key;
}

function quantifier(name: "all" | "exists" | "existsOne" | "exists_one"): PairMacro {
  const decisive = name === "exists";
  const run = (entries: readonly Entry[]): boolean => {
    if (name !== "all" && name !== "exists") return entries.filter((entry) => entry.step() === true).length === 1;
    let failure: unknown;
    for (const entry of entries) {
      try {
        if (entry.step() === decisive) return decisive;
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return !decisive;
  };
  return { type: boolType, run };
}

const passing = (entries: readonly Entry[]): Entry[] => entries.filter((entry) => entry.passes());

const TRANSFORM_LIST: PairMacro = {
  type: (checker, _, step) => checker.registry.getListType(step),
  run: (entries) => passing(entries).map((entry) => entry.step()),
};

const TRANSFORM_MAP: PairMacro = {
  type: (checker, key, step) => checker.registry.getMapType(key, step),
  run: (entries) => new Map(passing(entries).map((entry) => [entry.key, entry.step()])),
};

const TRANSFORM_ENTRY: PairMacro = {
  type: (_, _key, step) => step,
  run: (entries) => {
    const made = new Map<unknown, unknown>();
    for (const [key, value] of passing(entries).flatMap((entry) => entriesOf(entry.step()) ?? [])) {
      if (made.has(key)) throw new Error(`insert failed: key '${String(key)}' already exists`);
      made.set(key, value);
    }
    return made;
  },
};

/** `optMap(x, e)` is the optional value of e where x is there; `optFlatMap(x, e)` is e itself, which is optional. */
function expandOptional({ receiver, args }: Call, flat: boolean): Macro {
  const [variable, step] = args;
  let type: Type | undefined;
  const bound = (scope: Scope): Scope => {
    if (variable?.op !== "id" || type === undefined) throw new Error("argument must be a simple name");
    return scope.forkWithVariable(variable.args, type);
  };
  return {
    async: false,
    typeCheck: (checker, _, scope) => {
      const value = checker.check(receiver, scope).valueType;
      type = value === undefined || value.kind === "param" ? checker.getType("dyn") : value;
      if (step === undefined) throw new Error("missing argument");
      const result = checker.check(step, bound(scope));
      return flat ? result : checker.registry.getOptionalType(result);
    },
    evaluate: (evaluator, _, scope) => {
      const value = evaluator.run(receiver, scope);
      if (!(value instanceof Optional) || step === undefined) throw new Error("no such overload");
      if (!value.hasValue()) return value;
      const result = evaluator.run(step, bound(scope).setIterValue(value.value(), evaluator));
      return flat ? result : Optional.of(result);
    },
  };
}
