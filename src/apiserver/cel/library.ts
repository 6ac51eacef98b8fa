/**
 * Library: the functions that Kubernetes adds to CEL for strings, lists, sets and regular expressions.
 *
 * Left out, so that a definition that uses them is refused: quantity, url, semver, format, and macros of two variables.
 * Source: apiserver pkg/cel/library, cel-go ext/strings.go and ext/sets.go.
 */
import type { Environment } from "@marcbachmann/cel-js";
import { type Define, definer } from "./define.ts";

/** Methods of the library that are replaced: the rule says `matches`, the environment knows it as this. */
export const REPLACED: ReadonlyMap<string, string> = new Map([["matches", "matchesPattern"], ["join", "joinItems"]]);

/** Throws when the text is no regular expression. Flags in front, `(?i)`, are RE2's. */
export function regularExpression(source: string, global = false): RegExp {
  const flags = /^\(\?([ims]+)\)/.exec(source);
  const rest = source.slice(flags?.[0].length ?? 0).replaceAll("\\z", "$(?![\\s\\S])").replaceAll("(?P<", "(?<");
  return new RegExp(rest, `${flags?.[1] ?? ""}${global ? "g" : ""}u`);
}

const patterns = new Map<string, RegExp>();

function pattern(source: string): RegExp {
  let found = patterns.get(source);
  if (found === undefined) {
    if (patterns.size > 1000) patterns.clear();
    patterns.set(source, (found = regularExpression(source, true)));
  }
  found.lastIndex = 0;
  return found;
}

type Scalar = string | bigint | number | boolean | Date;

export function declareLibrary(environment: Environment): void {
  const define = definer(environment);
  declareStrings(define);
  declareLists(define);
  declareSets(environment, define);
}

function declareStrings(define: Define): void {
  define("string.matchesPattern(string): bool", (text: string, source: string) => pattern(source).test(text));
  define("string.find(string): string", (text: string, source: string) => pattern(source).exec(text)?.[0] ?? "");
  define("string.findAll(string): list<string>", (text: string, source: string) => text.match(pattern(source)) ?? []);
  define("string.findAll(string, int): list<string>", (text: string, source: string, limit: bigint) => (text.match(pattern(source)) ?? []).slice(0, limit < 0n ? undefined : Number(limit)));
  define("string.charAt(int): string", (text: string, index: bigint) => charAt([...text], index));
  define("string.replace(string, string): string", (text: string, old: string, by: string) => text.replaceAll(old, () => by));
  define("string.replace(string, string, int): string", (text: string, old: string, by: string, count: bigint) => replaceSome(text, old, by, count));
}

function charAt(letters: readonly string[], index: bigint): string {
  if (index < 0n || index > BigInt(letters.length)) throw new Error(`index out of range: ${index}`);
  return letters[Number(index)] ?? "";
}

function replaceSome(text: string, old: string, by: string, count: bigint): string {
  let left = count < 0n ? Number.POSITIVE_INFINITY : Number(count);
  return text.replaceAll(old, () => (left-- > 0 ? by : old));
}

function items<T>(list: readonly T[] | ReadonlySet<T>): readonly T[] {
  return [...list];
}

function declareLists(define: Define): void {
  define("list<string>.joinItems(): string", (list: readonly string[]) => items(list).join(""));
  define("list<string>.joinItems(string): string", (list: readonly string[], separator: string) => items(list).join(separator));
  for (const type of ["string", "int", "double", "bool", "google.protobuf.Timestamp", "google.protobuf.Duration"]) {
    define(`list<${type}>.isSorted(): bool`, (list: readonly Scalar[]) => items(list).every((item, index, all) => index === 0 || (all[index - 1] ?? item) <= item));
    define(`list<${type}>.min(): ${type}`, (list: readonly Scalar[]) => extreme(items(list), "min", (a, b) => a < b));
    define(`list<${type}>.max(): ${type}`, (list: readonly Scalar[]) => extreme(items(list), "max", (a, b) => a > b));
    define(`list<${type}>.indexOf(${type}): int`, (list: readonly Scalar[], wanted: Scalar) => BigInt(items(list).findIndex((item) => same(item, wanted))));
    define(`list<${type}>.lastIndexOf(${type}): int`, (list: readonly Scalar[], wanted: Scalar) => BigInt(items(list).findLastIndex((item) => same(item, wanted))));
  }
  define("list<int>.sum(): int", (list: readonly bigint[]) => items(list).reduce((sum, item) => sum + item, 0n));
  define("list<double>.sum(): double", (list: readonly number[]) => items(list).reduce((sum, item) => sum + item, 0));
}

function extreme(list: readonly Scalar[], name: string, better: (a: Scalar, b: Scalar) => boolean): Scalar {
  const [first, ...rest] = list;
  if (first === undefined) throw new Error(`${name} called on empty list`);
  return rest.reduce((best, item) => (better(item, best) ? item : best), first);
}

function same(a: Scalar, b: Scalar): boolean {
  return a === b || (a instanceof Date && b instanceof Date && a.getTime() === b.getTime());
}

/** Receiver of `sets.contains()` and its like. */
class Sets {}

function declareSets(environment: Environment, define: Define): void {
  environment.registerType("Sets", Sets).registerConstant("sets", "Sets", new Sets());
  const contains = (list: readonly Scalar[], other: readonly Scalar[]): boolean => items(other).every((item) => items(list).some((entry) => same(entry, item)));
  for (const type of ["string", "int", "double", "bool"]) {
    define(`Sets.contains(list<${type}>, list<${type}>): bool`, (_: Sets, list: readonly Scalar[], other: readonly Scalar[]) => contains(list, other));
    define(`Sets.equivalent(list<${type}>, list<${type}>): bool`, (_: Sets, list: readonly Scalar[], other: readonly Scalar[]) => contains(list, other) && contains(other, list));
    define(`Sets.intersects(list<${type}>, list<${type}>): bool`, (_: Sets, list: readonly Scalar[], other: readonly Scalar[]) => items(other).some((item) => items(list).some((entry) => same(entry, item))));
  }
}
