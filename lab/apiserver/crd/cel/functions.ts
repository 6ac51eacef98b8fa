/**
 * Functions: the CEL environment that rules are compiled in: the language itself, CEL's extensions and what Kubernetes adds.
 *
 * Not here: CEL's extra list functions, which Kubernetes 1.34 has for stored rules only, and `authorizer`, which rules of definitions lack; a
 * rule that calls one does not compile, and so its definition is refused.
 * Source: apiserver pkg/cel/environment/base.go, pkg/cel/library/{lists,quantity}.go; cel-go ext/sets.go.
 */
import { Environment } from "@marcbachmann/cel-js";
import { nanosOf } from "../../kinds/quantity.ts";
import { registerFormats } from "./formats.ts";
import { registerLanguage } from "./language.ts";
import { registerMacros } from "./macros.ts";
import { registerNetworkFunctions } from "./network.ts";
import { nameOf } from "./source.ts";
import { registerStrings } from "./strings.ts";
import { Duration, DURATION, registerTimes, TIMESTAMP, Timestamp } from "./times.ts";
import { celEquals } from "./values.ts";

const SYNC = { async: false };
const COMPARABLE = ["int", "uint", "double", "string", "bool", "bytes", TIMESTAMP, DURATION];

function createEnvironment(): Environment {
  const environment = new Environment({ enableOptionalTypes: true, homogeneousAggregateLiterals: false });
  registerTimes(environment);
  registerLanguage(environment);
  registerMacros(environment);
  registerStrings(environment);
  registerNetworkFunctions(environment);
  registerFormats(environment);
  registerLists(environment);
  registerSets(environment);
  registerQuantities(environment);
  return environment;
}

function registerLists(environment: Environment): void {
  const add = (signature: string, handler: (...args: never[]) => unknown): void =>
    void environment.registerFunction(signature, handler, SYNC);
  for (const type of COMPARABLE) {
    add(`list<${type}>.isSorted(): bool`, (list: Iterable<unknown>) => isSorted([...list]));
    add(`list<${type}>.min(): ${type}`, (list: Iterable<unknown>) => extreme("min", [...list], (a, b) => isLess(a, b)));
    add(`list<${type}>.max(): ${type}`, (list: Iterable<unknown>) => extreme("max", [...list], (a, b) => isLess(b, a)));
  }
  add(`list<A>.${nameOf("indexOf")}(A): int`, (list: Iterable<unknown>, item: unknown) =>
    BigInt([...list].findIndex((other) => celEquals(other, item))),
  );
  add(`list<A>.${nameOf("lastIndexOf")}(A): int`, (list: Iterable<unknown>, item: unknown) =>
    BigInt([...list].findLastIndex((other) => celEquals(other, item))),
  );
  add("list<int>.sum(): int", (list: Iterable<bigint>) => [...list].reduce((sum, item) => sum + item, 0n));
  add("list<double>.sum(): double", (list: Iterable<number>) => [...list].reduce((sum, item) => sum + item, 0));
  add(`list<${DURATION}>.sum(): ${DURATION}`, (list: Iterable<Duration>) =>
    [...list].reduce((sum, item) => new Duration(sum.nanos + item.nanos), new Duration(0n)),
  );
}

/** Of two values of one comparable type. */
function isLess(a: unknown, b: unknown): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) < 0;
  if (typeof a === "string" && typeof b === "string") return Buffer.compare(Buffer.from(a), Buffer.from(b)) < 0;
  if (a instanceof Timestamp && b instanceof Timestamp) return a.nanos < b.nanos;
  if (a instanceof Duration && b instanceof Duration) return a.nanos < b.nanos;
  return Number(a) < Number(b);
}

function isSorted(list: readonly unknown[]): boolean {
  return list.every((item, index) => index === 0 || !isLess(item, list[index - 1]));
}

function extreme(name: string, list: readonly unknown[], before: (a: unknown, b: unknown) => boolean): unknown {
  if (list.length === 0) throw new Error(`${name} called on empty list`);
  return list.reduce((best, item) => (before(item, best) ? item : best));
}

/** The namespace of `sets.contains`. */
class SetsNamespace {}

function registerSets(environment: Environment): void {
  environment.registerType("SetsNamespace", SetsNamespace);
  environment.registerConstant("sets", "SetsNamespace", new SetsNamespace());
  const has = (all: Iterable<unknown>, some: Iterable<unknown>): boolean =>
    [...some].every((item) => [...all].some((other) => celEquals(item, other)));
  const add = (name: string, handler: (a: Iterable<unknown>, b: Iterable<unknown>) => boolean): void =>
    void environment.registerFunction(
      `SetsNamespace.${name}(list<A>, list<A>): bool`,
      (_: SetsNamespace, a: Iterable<unknown>, b: Iterable<unknown>) => handler(a, b),
      SYNC,
    );
  add("contains", has);
  add("equivalent", (a, b) => has(a, b) && has(b, a));
  add("intersects", (a, b) => [...a].some((item) => has(b, [item])));
}

/** An amount in units of 10^-9. */
class Quantity {
  readonly nanos: bigint;
  constructor(nanos: bigint) {
    this.nanos = nanos;
  }
}

const NANO = 1_000_000_000n;

function registerQuantities(environment: Environment): void {
  const add = (signature: string, handler: (...args: never[]) => unknown): void =>
    void environment.registerFunction(signature, handler, SYNC);
  const type = "kubernetes.Quantity";
  const order = (a: Quantity, b: Quantity): bigint => (a.nanos < b.nanos ? -1n : a.nanos > b.nanos ? 1n : 0n);
  const isInteger = ({ nanos }: Quantity): boolean =>
    nanos % NANO === 0n && BigInt.asIntN(64, nanos / NANO) === nanos / NANO;
  environment.registerType(type, Quantity);
  environment.registerOperator(`${type} == ${type}`, (a: Quantity, b: Quantity) => a.nanos === b.nanos);
  add(`quantity(string): ${type}`, (text: string) => {
    const nanos = nanosOf(text);
    if (nanos === undefined) throw new Error(`${JSON.stringify(text)} is no quantity: must be like 100m, 1.5Gi or 2e3`);
    return new Quantity(nanos);
  });
  add("isQuantity(string): bool", (text: string) => nanosOf(text) !== undefined);
  add(`sign(${type}): int`, (quantity: Quantity) => order(quantity, new Quantity(0n)));
  add(`${type}.compareTo(${type}): int`, order);
  add(`${type}.isGreaterThan(${type}): bool`, (a: Quantity, b: Quantity) => a.nanos > b.nanos);
  add(`${type}.isLessThan(${type}): bool`, (a: Quantity, b: Quantity) => a.nanos < b.nanos);
  add(`${type}.isInteger(): bool`, isInteger);
  add(`${type}.asInteger(): int`, (quantity: Quantity) => {
    if (!isInteger(quantity)) throw new Error("cannot convert value to integer");
    return quantity.nanos / NANO;
  });
  add(`${type}.asApproximateFloat(): double`, (quantity: Quantity) => Number(quantity.nanos) / 1e9);
  for (const [name, sign] of [
    ["add", 1n],
    ["sub", -1n],
  ] as const) {
    add(`${type}.${name}(${type}): ${type}`, (a: Quantity, b: Quantity) => new Quantity(a.nanos + sign * b.nanos));
    add(`${type}.${name}(int): ${type}`, (a: Quantity, b: bigint) => new Quantity(a.nanos + sign * b * NANO));
  }
}

/** The environment without `self`; below everything that it is made of. */
export const BASE_ENVIRONMENT = createEnvironment();
