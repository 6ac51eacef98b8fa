/**
 * Source: the text of an expression as the library is given it, where its own reading differs from the language's.
 *
 * Literals: numbers that begin with a point get a digit before it, raw strings become plain ones, bytes are written in escapes. Calls of the
 * functions below get a prefix: the library's own functions cannot be replaced, so this project's exist beside them under another name.
 */
const PREFIX = "own_";
/** Of types: there the library allows no underscore. */
export const TYPE_PREFIX = "own.";
/** Below it are the types of times: `google.protobuf.Timestamp`. */
export const TYPES_NAME = `${PREFIX}google`;

/** Functions and macros that are this project's, or that Kubernetes lacks; the library's of the same name are out of reach. */
const REPLACED: ReadonlySet<string> = new Set([
  "has",
  "int",
  "string",
  "timestamp",
  "duration",
  "matches",
  "trim",
  "lowerAscii",
  "upperAscii",
  "indexOf",
  "lastIndexOf",
  "substring",
  "split",
  "join",
  "getDate",
  "getDayOfMonth",
  "getDayOfWeek",
  "getDayOfYear",
  "getFullYear",
  "getMonth",
  "getHours",
  "getMinutes",
  "getSeconds",
  "getMilliseconds",
  "bind",
  "json",
  "hex",
  "base64",
  "at",
]);

const PLAIN = String.raw`"""(?:\\[^]|[^\\])*?"""|'''(?:\\[^]|[^\\])*?'''|"(?:\\.|[^"\\\n\r])*"|'(?:\\.|[^'\\\n\r])*'`;
const RAW = String.raw`"""[^]*?"""|'''[^]*?'''|"[^"\n\r]*"|'[^'\n\r]*'`;
const TOKEN = new RegExp(
  String.raw`(?<comment>//.*)|(?<rawPrefix>[rR][bB]?|[bB][rR])(?<raw>${RAW})|[bB](?<bytes>${PLAIN})|(?<string>${PLAIN})|(?<number>\d[\w.]*)|(?<fraction>\.\d)|(?<google>(?<!\.\s*)google\b)|(?<name>[A-Za-z_]\w*)(?=\s*\()|[A-Za-z_]\w*|[^]`,
  "gy",
);

export function sourceForLibrary(expression: string): string {
  return expression.replace(TOKEN, (...match) => {
    const [token] = match;
    const groups: unknown = match.at(-1);
    const group = (name: string): string | undefined =>
      typeof groups === "object" && groups !== null && name in groups ? textOf(Reflect.get(groups, name)) : undefined;
    const name = group("name");
    // A call written with the prefix is an unknown function.
    if (name !== undefined) return name.startsWith(PREFIX) ? `${PREFIX}${name}` : nameOf(name);
    if (group("google") !== undefined) return TYPES_NAME;
    const raw = group("raw");
    if (raw !== undefined) return rawLiteral(raw, (group("rawPrefix") ?? "").length === 2);
    const bytes = group("bytes");
    if (bytes !== undefined) return `b${bytes.replace(/\P{ASCII}+/gu, hexEscapes)}`;
    return group("fraction") === undefined ? String(token) : `0${String(token)}`;
  });
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function rawLiteral(quoted: string, isBytes: boolean): string {
  const width = /^("""|''')/.test(quoted) ? 3 : 1;
  const content = quoted.slice(width, -width);
  return isBytes ? `b"${hexEscapes(content)}"` : JSON.stringify(content);
}

function hexEscapes(text: string): string {
  return [...Buffer.from(text)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}

/** The name under which the library knows a function of the language. */
export function nameOf(name: string): string {
  return REPLACED.has(name) ? `${PREFIX}${name}` : name;
}

/** Words of the library, with the names as users write them. */
export function withoutPrefix(words: string): string {
  return words.replaceAll(PREFIX, "").replaceAll(TYPE_PREFIX, "");
}
