import { expect, test } from "bun:test";
import { copyJson } from "./copy.ts";

test("a copy is equal, shares nothing, and takes no name for a prototype", () => {
  const value = JSON.parse('{"a":[1,{"b":null}],"c":{"__proto__":{"x":"y"},"d":true}}') as {
    a: [number, { b: unknown }];
    c: object;
  };
  const copy = copyJson(value);
  expect(JSON.stringify(copy)).toBe(JSON.stringify(value));
  expect(Object.getPrototypeOf(copy.c)).toBe(Object.prototype);
  value.a[1].b = 7;
  expect(copy.a[1].b).toBe(null);
});
