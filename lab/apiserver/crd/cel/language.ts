/**
 * Language: functions and operators of the language itself that the library lacks or reads otherwise: conversions, comparisons,
 * optional values.
 *
 * Source: https://github.com/google/cel-spec doc/langdef.md.
 */
import { type Environment, Optional } from "@marcbachmann/cel-js";
import { compilePattern } from "../../../../src/model/schema/pattern.ts";
import { nameOf } from "./source.ts";
import { DURATION, TIMESTAMP } from "./times.ts";
import { celEquals, isZero, toInt, toText } from "./values.ts";

const SYNC = { async: false };

export function registerLanguage(environment: Environment): void {
  const add = (signature: string, handler: (...args: never[]) => unknown): void =>
    void environment.registerFunction(signature, handler, SYNC);
  for (const type of ["int", "uint", "double", "string", TIMESTAMP]) add(`${nameOf("int")}(${type}): int`, toInt);
  for (const type of ["string", "bool", "int", "uint", "double", "bytes", TIMESTAMP, DURATION])
    add(`${nameOf("string")}(${type}): string`, toText);
  add(`string.${nameOf("matches")}(string): bool`, matches);
  add(`${nameOf("matches")}(string, string): bool`, matches);
  registerOptionals(environment, add);
  registerComparisons(environment);
}

type Add = (signature: string, handler: (...args: never[]) => unknown) => void;

function matches(text: string, pattern: string): boolean {
  return compilePattern(pattern).test(text);
}

function registerOptionals(environment: Environment, add: Add): void {
  add("OptionalNamespace.ofNonZeroValue(A): optional<A>", (_: unknown, value: unknown) =>
    isZero(value) ? Optional.none() : Optional.of(value),
  );
  environment.registerOperator("optional<A> == optional<A>", celEquals);
  environment.registerOperator("optional == null", () => false);
}

function registerComparisons(environment: Environment): void {
  environment.registerOperator("bytes < bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) < 0);
  environment.registerOperator("bytes <= bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) <= 0);
  environment.registerOperator("bytes > bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) > 0);
  environment.registerOperator("bytes >= bytes", (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) >= 0);
}
