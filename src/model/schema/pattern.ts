/** Pattern: regular expressions as Kubernetes reads them (Go's RE2), made into JavaScript's. Source: https://github.com/google/re2/wiki/Syntax */

/** Spellings of RE2 that JavaScript has otherwise. */
const RENAMED: Readonly<Record<string, string>> = { "\\A": "^", "\\z": "$(?![\\s\\S])", "\\a": "\\x07" };
const POSIX: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z", alpha: "A-Za-z", ascii: "\\x00-\\x7f", blank: "\\t ", cntrl: "\\x00-\\x1f\\x7f", digit: "0-9", graph: "!-~", lower: "a-z", print: " -~", punct: "!-/:-@\\[-`{-~", space: "\\s", upper: "A-Z", word: "\\w", xdigit: "0-9A-Fa-f",
};

const patterns = new Map<string, RegExp>();
const MOST_KEPT = 1000;

/** The expression, global, its search set to the start. Throws a SyntaxError when the text is no regular expression. */
export function patternOf(source: string): RegExp {
  let pattern = patterns.get(source);
  if (pattern === undefined) {
    if (patterns.size >= MOST_KEPT) patterns.clear();
    patterns.set(source, (pattern = new RegExp(translate(source), /\\[pP]\{|\\x\{/.test(source) ? "gu" : "g")));
  }
  pattern.lastIndex = 0;
  return pattern;
}

/** Flags such as `(?i)` hold up to the end of their group, and in its further alternatives: there they become `(?i:…)`. */
function translate(source: string): string {
  let result = "";
  /** Flags opened in each group, the outermost first. */
  const opened: string[][] = [[]];
  for (let at = 0; at < source.length; ) {
    const rest = source.slice(at);
    const innermost = opened.at(-1) ?? [];
    const token = /^(?:\\Q([\s\S]*?)(?:\\E|$)|\\x\{([0-9a-fA-F]+)\}|\\(?:[pP]\{[^}]*\}|[\s\S])|\[\^?\]?(?:\[:\^?\w+:\]|\\[\s\S]|[^\]\\])*\]|\(\?([imsU]+)\)|\(\?P<|[\s\S])/.exec(rest);
    const [text, quoted, code, flags] = token ?? [rest.slice(0, 1)];
    at += text.length;
    if (quoted !== undefined) result += quoted.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
    else if (code !== undefined) result += `\\u{${code}}`;
    else if (flags !== undefined) {
      innermost.push(`(?${flags.replace("U", "")}:`);
      result += innermost.at(-1) ?? "";
    } else if (text.startsWith("[") && text.length > 1) result += classOf(text);
    else if (text === "(?P<") {
      opened.push([]);
      result += "(?<";
    } else if (text === "(") {
      opened.push([]);
      result += "(";
    } else if (text === ")") {
      result += ")".repeat(innermost.length + 1);
      if (opened.length > 1) opened.pop();
      else opened[0] = [];
    } else if (text === "|") result += `${")".repeat(innermost.length)}|${innermost.join("")}`;
    else result += RENAMED[text] ?? text;
  }
  return result + ")".repeat((opened.at(-1) ?? []).length);
}

/** A class of characters: POSIX names are spelled out, a `]` in front is itself. */
function classOf(text: string): string {
  return text.replace(/^(\[\^?)\]/, "$1\\]").replace(/\[:(\w+):\]/g, (whole, name: string) => POSIX[name] ?? whole).replace(/(?<=.)\[(?=.)/gs, "\\[");
}
