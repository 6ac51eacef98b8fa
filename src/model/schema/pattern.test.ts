import { expect, test } from "bun:test";
import { compilePattern } from "./pattern.ts";

test.each([
  ["^(?i)(Trace|Debug)?$", ["trace", "DEBUG", ""], ["trac"]],
  ["^(?:a(?i)b|c)$", ["ab", "aB", "C"], ["Ab"]],
  ["^((?i)a)b$", ["Ab"], ["AB"]],
  ["\\Aa\\z", ["a"], ["ba"]],
  ["^(?P<year>\\d+)$", ["2024"], ["x"]],
  ["^[[:alpha:]_]+$", ["a_Z"], ["a1", ":"]],
  ["^[]a]+$", ["]a"], ["b"]],
  ["^[^]a]+$", ["b"], ["]"]],
  ["^\\Qa.b\\E$", ["a.b"], ["axb"]],
  ["^[a-z\\]]+$", ["a]"], ["A"]],
  ["(?i:a)b", ["Ab"], ["AB"]],
  ["^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", ["a-b"], ["-a"]],
])("%s", (pattern, accepted, refused) => {
  for (const text of accepted) expect({ text, matches: compilePattern(pattern).test(text) }).toEqual({ text, matches: true });
  for (const text of refused) expect({ text, matches: compilePattern(pattern).test(text) }).toEqual({ text, matches: false });
});

test.each(["(?=a)", "(?!a)", "(?<=a)b", "(a)\\1", "(?U)a+", "[a", "(a", "a)", "*"])("is no pattern: %s", (pattern) => {
  expect(() => compilePattern(pattern)).toThrow();
});
