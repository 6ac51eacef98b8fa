import { expect, test } from "bun:test";
import { patternOf } from "./pattern.ts";

test.each([
  ["^(?i)(Trace|Debug)?$", "DEBUG", true],
  ["^(?i)(Trace|Debug)?$", "Debugs", false],
  ["a(?i)b|c", "aB", true],
  ["^(?:a(?i)b|c)$", "C", true],
  ["^(?:a(?i)b|c)$", "AB", false],
  ["^(?:a(?i)b|c)d$", "abD", false],
  ["(?s)^a.b$", "a\nb", true],
  ["^a.b$", "a\nb", false],
  ["(?P<first>x)y", "xy", true],
  ["\\Aa\\z", "a", true],
  ["a\\z", "a\n", false],
  ["^[[:digit:]_]+$", "1_2", true],
  ["^[[:digit:]_]+$", "a", false],
  ["^[]a]+$", "]a", true],
  ["^[[a]+$", "[a", true],
  ["^\\Qa.b\\E$", "a.b", true],
  ["^\\Qa.b\\E$", "axb", false],
  ["^\\x{1F600}$", "😀", true],
  ["^\\p{L}+$", "é", true],
  ["^[a-z0-9]([-a-z0-9]*[a-z0-9])?\\.example\\-x$", "ab.example-x", true],
  ["^\\(a\\|b\\)$", "(a|b)", true],
])("%s on %j: %p", (source, text, matches) => {
  expect(patternOf(source).test(text)).toBe(matches);
});

test.each(["[", "(", "a)", "*a", "(?<n>x", "a{2,1}"])("%s is no pattern", (source) => {
  expect(() => patternOf(source)).toThrow();
});
