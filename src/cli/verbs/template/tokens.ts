/** Tokens: the words of one action of a Go template. */
import { Refusal } from "../failures.ts";

export interface Token {
  readonly type: "literal" | "field" | "variable" | "word" | "|" | "(" | ")" | "," | ":=" | "=";
  readonly text: string;
  /** Of a literal. */
  readonly value?: string | number | boolean | null;
  /** Of a field: whether it directly follows the token before. */
  readonly isAttached?: boolean;
}

const PATTERN =
  /\s+|(?<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)|(?<number>[-+]?\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?)|(?<field>\.(?:[\p{L}_][\p{L}\d_]*(?:\.[\p{L}_][\p{L}\d_]*)*)?)|(?<variable>\$[\p{L}\d_]*)|(?<word>[\p{L}_][\p{L}\d_]*)|(?<sign>:=|[|(),=])/uy;

const WORDS: Readonly<Record<string, boolean | null>> = { true: true, false: false, nil: null };

/** Throws Refusal. */
export function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  const pattern = new RegExp(PATTERN);
  let isAttached = false;
  while (pattern.lastIndex < text.length) {
    const at = pattern.lastIndex;
    const match = pattern.exec(text);
    if (match === null) throw new Refusal(`go-template: cannot read ${JSON.stringify(text.slice(at, at + 20))}`);
    const token = tokenOf(match.groups ?? {}, isAttached);
    if (token !== undefined) tokens.push(token);
    isAttached = token !== undefined;
  }
  return tokens;
}

function tokenOf(groups: Readonly<Record<string, string | undefined>>, isAttached: boolean): Token | undefined {
  const { string, number, field, variable, word, sign } = groups;
  if (string !== undefined) return { type: "literal", text: string, value: unquoted(string) };
  if (number !== undefined) return { type: "literal", text: number, value: Number(number.replaceAll("_", "")) };
  if (field !== undefined) return { type: "field", text: field, isAttached };
  if (variable !== undefined) return { type: "variable", text: variable };
  if (word !== undefined)
    return Object.hasOwn(WORDS, word)
      ? { type: "literal", text: word, value: WORDS[word] ?? null }
      : { type: "word", text: word };
  return sign === undefined ? undefined : { type: sign as Token["type"], text: sign };
}

function unquoted(text: string): string {
  if (text.startsWith("`")) return text.slice(1, -1);
  try {
    return String(JSON.parse(text));
  } catch {
    throw new Refusal(`go-template: ${text} has an escape that is not supported: use those of JSON`);
  }
}
