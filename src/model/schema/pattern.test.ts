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
  ["^\\s\\S$", [" a", "\ta"], ["\u00a0a", "aa", "  "]],
  ["^[\\S ]+$", ["\u00a0a \v"], ["\t", "\n", "\f", "\r"]],
  ["^[^\\S ]+$", ["\t\n\f\r"], [" ", "a", "\v", "\u00a0", "\uffff", "\x00"]],
  ["^[\\s.]+$", [" .\n"], ["\u00a0", "s"]],
  ["^\\x41\\x{42}[\\x{e9}\\-]\\a$", ["AB\u00e9\u0007", "AB-\u0007"], ["ABxa"]],
  ["^\\bab\\/\\.$", ["ab/."], ["ab/x"]],
  ["^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", ["a-b"], ["-a"]],
  ["^\\PC*$", ["a\u00e9 \u{1f431}", ""], ["\u0007", "\u200b"]],
  ["^\\p{L}[\\pN_-]\\P{Greek}\\p{^Lu}$", ["\u00e91xa", "a-xa", "a_\u{1f431}a"], ["1", "a1\u03b1a", "a1xA"]],
  ["^.{2}\\x{1F600}$", ["\u{1f431}a\u{1f600}"], ["\u{1f431}\u{1f600}"]],
  ["^a{$|^}]{2}$|^x{,5}$", ["a{", "}]]", "x{,5}"], ["a", "xx"]],
  ["^[\\w-.]+[\\d-]+[+-\\.]$", ["a-.1-,"], ["a1a"]],
  ["^[[:alpha:]-]+\\_\\%\\@$", ["a-_%@"], ["1_%@"]],
])("%s", (pattern, accepted, refused) => {
  for (const text of accepted)
    expect({ text, matches: compilePattern(pattern).test(text) }).toEqual({ text, matches: true });
  for (const text of refused)
    expect({ text, matches: compilePattern(pattern).test(text) }).toEqual({ text, matches: false });
});

test.each([
  "(?=a)",
  "(?!a)",
  "(?<=a)b",
  "(a)\\1",
  "(?U)a+",
  "\\k<a>",
  "\\u0041",
  "\\p{Nothing}",
  "\\pX",
  "[[:^alpha:]]",
  "[[:nothing:]]",
  "\\012",
  "[\\B]",
  "[a",
  "(a",
  "a)",
  "*",
])("is no pattern: %s", (pattern) => {
  expect(() => compilePattern(pattern)).toThrow();
});
