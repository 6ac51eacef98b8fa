/**
 * Pattern: regular expressions as Kubernetes writes them (RE2), in the syntax of JavaScript.
 *
 * Read: flags in the middle (`^(?i)allow$`), `(?P<name>…)`, `\A`, `\z`, `\Q…\E`, POSIX classes, classes of
 * Unicode (`\pL`, `\P{Greek}`). Refused, as in RE2: looking ahead or behind and references back; also what JavaScript lacks or would read
 * otherwise: the flag U, negated POSIX classes, octal numbers. A position is a character, not a UTF-16 unit.
 * Source: https://github.com/google/re2/wiki/Syntax
 */
const CLASSES: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  ascii: "\\x00-\\x7F",
  blank: "\\t ",
  cntrl: "\\x00-\\x1F\\x7F",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-/:-@\\[-`{-~",
  space: "\\t\\n\\v\\f\\r ",
  upper: "A-Z",
  word: "0-9A-Za-z_",
  xdigit: "0-9A-Fa-f",
};
const FLAGS = /^\(\?([imsU]*(?:-[imsU]+)?)([:)])/;
const UNLIKE_RE2 = /^\(\?<?[=!]/;

/** Bounded, because patterns are also read from objects. */
const MOST_COMPILED = 5000;
const compiled = new Map<string, RegExp>();

/** The expression; throws SyntaxError when the pattern is none. */
export function compilePattern(source: string): RegExp {
  let pattern = compiled.get(source);
  if (pattern === undefined) {
    if (compiled.size >= MOST_COMPILED) compiled.clear();
    compiled.set(source, (pattern = new RegExp(translatePattern(source), "u")));
  }
  return pattern;
}

/** The same pattern for JavaScript with the flag u; throws SyntaxError for what it cannot say. What neither syntax knows is left for the compiler to refuse. */
export function translatePattern(source: string): string {
  /** For each open group the flags that were set inside it: JavaScript ends them at each alternative. */
  const groups: string[][] = [[]];
  let out = "";
  let rest = source;
  const take = (length: number, text: string): void => {
    rest = rest.slice(length);
    out += text;
  };
  const closing = (): string => ")".repeat(groups.at(-1)?.length ?? 0);
  while (rest !== "") {
    const flags = FLAGS.exec(rest);
    if (UNLIKE_RE2.test(rest) || flags?.[1]?.includes("U") === true)
      throw new SyntaxError(`not supported in a pattern: ${rest}`);
    if (flags?.[2] === ")") {
      const opening = `(?${flags[1]}:`;
      groups.at(-1)?.push(opening);
      take(flags[0].length, opening);
    } else if (rest.startsWith("\\Q")) {
      const end = rest.includes("\\E") ? rest.indexOf("\\E") : rest.length;
      take(end + 2, rest.slice(2, end).replace(SYNTAX, "\\$&"));
    } else if (rest.startsWith("\\A") || rest.startsWith("\\z")) take(2, rest.startsWith("\\A") ? "^" : "$");
    else if (rest.startsWith("\\")) take(...translateEscape(rest, false));
    else if (rest.startsWith("[")) take(...translateClass(rest));
    else if (rest.startsWith("(")) {
      groups.push([]);
      const name = rest.startsWith("(?P<") ? 4 : 1;
      take(name, name === 4 ? "(?<" : "(");
    } else if (rest.startsWith(")")) {
      take(1, `${closing()})`);
      if (groups.length > 1) groups.pop();
    } else if (rest.startsWith("|")) take(1, `${closing()}|${(groups.at(-1) ?? []).join("")}`);
    else if (/^[\]}]|^\{(?!\d+(?:,\d*)?\})/.test(rest)) take(1, `\\${rest.slice(0, 1)}`);
    else if (rest.startsWith("{")) take(rest.indexOf("}") + 1, rest.slice(0, rest.indexOf("}") + 1));
    else take(1, rest.slice(0, 1));
  }
  return out + closing();
}

const SPACE = "\\t\\n\\f\\r ";
const NO_SPACE = "\\x00-\\x08\\v\\x0e-\\x1f!-\\u{10ffff}";
const SAME_ESCAPE = /^\\(?:[dDwWtnrfv]|x[0-9A-Fa-f]{2})/;
const SYNTAX = /[$()*+./?[\\\]^{|}]/g;

/** Length and translation of the escape that the text begins with. */
function translateEscape(text: string, isInClass: boolean): [number, string] {
  const wide = /^\\x\{([0-9A-Fa-f]{1,6})\}/.exec(text);
  if (wide !== null) return [wide[0].length, `\\u{${wide[1]}}`];
  const unicode = /^\\([pP])(?:([A-Z])|\{(\^?)(\w+)\})/.exec(text);
  if (unicode !== null) {
    const [whole, letter, short, negation, name = ""] = unicode;
    return [whole.length, unicodeClass((letter === "P") !== (negation === "^"), short ?? name)];
  }
  if (text.startsWith("\\a")) return [2, "\\x07"];
  if (text.startsWith("\\s")) return [2, isInClass ? SPACE : `[${SPACE}]`];
  if (text.startsWith("\\S")) return [2, isInClass ? NO_SPACE : `[^${SPACE}]`];
  if (/^\\[bB]/.test(text) && !isInClass) return [2, text.slice(0, 2)];
  const literal = /^\\([^A-Za-z0-9])/u.exec(text)?.[1];
  if (literal !== undefined)
    return [1 + literal.length, literal === "-" && isInClass ? "\\-" : literal.replace(SYNTAX, "\\$&")];
  const same = SAME_ESCAPE.exec(text);
  if (same === null) throw new SyntaxError(`not supported in a pattern: ${text}`);
  return [same[0].length, same[0]];
}

/** A general category (`L`, `Lu`) or a script (`Greek`). */
function unicodeClass(negated: boolean, name: string): string {
  return `\\${negated ? "P" : "p"}{${/^(?:Any|[A-Z][a-z]?)$/.test(name) ? "" : "Script="}${name}}`;
}

/** Length and translation of the bracket expression that the text begins with. */
function translateClass(text: string): [number, string] {
  const match = /^\[(\^?)(\]?(?:\[:\^?[a-z]+:\]|\\[^]|[^\]\\])*)\]/.exec(text);
  if (match === null) throw new SyntaxError(`missing ] in a pattern: ${text}`);
  const [whole, negation = "", members = ""] = match;
  let inside = "";
  for (let rest = members.replace(/^\]/, "\\]"); rest !== "";) {
    const named = /^\[:(\^?[a-z]+):\]/.exec(rest);
    const posix = CLASSES[named?.[1] ?? ""];
    if (named !== null && posix === undefined) throw new SyntaxError(`not supported in a pattern: ${named[0]}`);
    const [length, out] =
      named !== null && posix !== undefined
        ? [named[0].length, posix]
        : rest.startsWith("\\")
          ? translateEscape(rest, true)
          : [1, rest.slice(0, 1)];
    // A dash beside a class is itself, which the flag u wants in words.
    const isBesideClass =
      out === "-" && (/(?:\\[dDwWpP](?:\{[^}]*\})?)$/.test(inside) || /^\\[dDwWsSpP]|^\[:/.test(rest.slice(1)));
    rest = rest.slice(length);
    inside += isBesideClass ? "\\-" : out;
  }
  return [whole.length, `[${negation}${inside}]`];
}
