/**
 * Functions: the CEL environment that rules are compiled in: the language itself from the library, and what Kubernetes adds to it.
 *
 * Not here: the libraries for URLs, quantities, named formats, semantic versions and CEL's own extra list functions; a rule that calls one
 * does not compile, and so its definition is refused.
 * Source: apiserver pkg/cel/environment/base.go, pkg/cel/library/{lists,regex}.go; cel-go ext/{strings,sets}.go.
 */
import { Environment } from "@marcbachmann/cel-js";
import { translatePattern } from "../../../model/schema/pattern.ts";
import { registerNetworkFunctions } from "./network.ts";

const SYNC = { async: false };
const COMPARABLE = ["int", "double", "string", "bool"] as const;

function createEnvironment(): Environment {
  const environment = new Environment({ enableOptionalTypes: true });
  registerNetworkFunctions(environment);
  registerStrings(environment);
  registerLists(environment);
  registerSets(environment);
  return environment;
}

function registerStrings(environment: Environment): void {
  environment.registerFunction("string.charAt(int): string", (text: string, index: bigint) => characterAt(text, Number(index)), SYNC);
  environment.registerFunction("string.replace(string, string): string", (text: string, from: string, to: string) => replace(text, from, to, -1), SYNC);
  environment.registerFunction("string.replace(string, string, int): string", (text: string, from: string, to: string, limit: bigint) => replace(text, from, to, Number(limit)), SYNC);
  environment.registerFunction("string.find(string): string", (text: string, pattern: string) => new RegExp(translatePattern(pattern)).exec(text)?.[0] ?? "", SYNC);
  environment.registerFunction("string.findAll(string): list<string>", (text: string, pattern: string) => findAll(text, pattern, -1), SYNC);
  environment.registerFunction("string.findAll(string, int): list<string>", (text: string, pattern: string, limit: bigint) => findAll(text, pattern, Number(limit)), SYNC);
}

function characterAt(text: string, index: number): string {
  const characters = [...text];
  if (index < 0 || index > characters.length) throw new Error(`index out of range: ${index}`);
  return characters[index] ?? "";
}

/** The first `limit` places; all when it is negative. */
function replace(text: string, from: string, to: string, limit: number): string {
  const parts = text.split(from);
  const count = limit < 0 ? parts.length - 1 : Math.min(limit, parts.length - 1);
  return [...parts.slice(0, count), parts.slice(count).join(from)].join(to);
}

function findAll(text: string, pattern: string, limit: number): string[] {
  const found = Array.from(text.matchAll(new RegExp(translatePattern(pattern), "g")), ([match]) => match);
  return limit < 0 ? found : found.slice(0, limit);
}

type Comparable = bigint | number | string | boolean;

function registerLists(environment: Environment): void {
  for (const type of COMPARABLE) {
    environment.registerFunction(`list<${type}>.isSorted(): bool`, (list: Iterable<Comparable>) => isSorted([...list]), SYNC);
    environment.registerFunction(`list<${type}>.min(): ${type}`, (list: Iterable<Comparable>) => extreme("min", [...list], (a, b) => a < b), SYNC);
    environment.registerFunction(`list<${type}>.max(): ${type}`, (list: Iterable<Comparable>) => extreme("max", [...list], (a, b) => a > b), SYNC);
    environment.registerFunction(`list<${type}>.indexOf(${type}): int`, (list: Iterable<Comparable>, item: Comparable) => BigInt([...list].indexOf(item)), SYNC);
    environment.registerFunction(`list<${type}>.lastIndexOf(${type}): int`, (list: Iterable<Comparable>, item: Comparable) => BigInt([...list].lastIndexOf(item)), SYNC);
  }
  environment.registerFunction("list<int>.sum(): int", (list: Iterable<bigint>) => [...list].reduce((sum, item) => sum + item, 0n), SYNC);
  environment.registerFunction("list<double>.sum(): double", (list: Iterable<number>) => [...list].reduce((sum, item) => sum + item, 0), SYNC);
}

function isSorted(list: readonly Comparable[]): boolean {
  return list.every((item, index) => index === 0 || (list[index - 1] ?? item) <= item);
}

function extreme(name: string, list: readonly Comparable[], before: (a: Comparable, b: Comparable) => boolean): Comparable {
  const [first, ...rest] = list;
  if (first === undefined) throw new Error(`${name} called on empty list`);
  return rest.reduce((best, item) => (before(item, best) ? item : best), first);
}

/** The namespace of `sets.contains`. */
class SetsNamespace {}

function registerSets(environment: Environment): void {
  environment.registerType("SetsNamespace", SetsNamespace);
  environment.registerConstant("sets", "SetsNamespace", new SetsNamespace());
  for (const type of COMPARABLE) {
    const has = (all: Iterable<Comparable>, some: Iterable<Comparable>): boolean => new Set(all).isSupersetOf(new Set(some));
    const lists = `list<${type}>, list<${type}>`;
    environment.registerFunction(`SetsNamespace.contains(${lists}): bool`, (_: SetsNamespace, a: Iterable<Comparable>, b: Iterable<Comparable>) => has(a, b), SYNC);
    environment.registerFunction(`SetsNamespace.equivalent(${lists}): bool`, (_: SetsNamespace, a: Iterable<Comparable>, b: Iterable<Comparable>) => has(a, b) && has(b, a), SYNC);
    environment.registerFunction(`SetsNamespace.intersects(${lists}): bool`, (_: SetsNamespace, a: Iterable<Comparable>, b: Iterable<Comparable>) => !new Set(a).isDisjointFrom(new Set(b)), SYNC);
  }
}

/** The environment without `self`; below everything that it is made of. */
export const BASE_ENVIRONMENT = createEnvironment();
