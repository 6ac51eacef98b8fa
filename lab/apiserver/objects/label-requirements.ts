/**
 * LabelRequirements: the requirements of a label selector, from its text, refused in Kubernetes' words. Source of grammar and words:
 * apimachinery pkg/labels/selector.go.
 */
import { badRequest } from "../errors.ts";
import { labelValueProblems, qualifiedNameProblems } from "./metadata.ts";

type Labels = Readonly<Record<string, string>>;
type Requirement = (labels: Labels) => boolean;

const OPERATORS = ["in", "notin", "=", "==", "!=", "gt", "lt"];
const SYMBOLS: ReadonlySet<string> = new Set(["!", "=", "==", "!=", ">", "<", ",", "(", ")"]);

/** Symbols as long as they can be, and the words between them; at the end an empty token. */
function tokensOf(text: string): string[] {
  const tokens: string[] = [];
  for (const [piece] of text.matchAll(/[=!<>(),]+|[^\s=!<>(),]+/g)) {
    if (!/^[=!<>(),]/.test(piece)) {
      tokens.push(piece);
      continue;
    }
    for (let rest = piece; rest !== "";) {
      const symbol = SYMBOLS.has(rest.slice(0, 2)) && rest.length > 1 ? rest.slice(0, 2) : rest.slice(0, 1);
      tokens.push(symbol);
      rest = rest.slice(symbol.length);
    }
  }
  return [...tokens, ""];
}

/** The requirements of the selector, all of which must hold; a 400 says what could not be read. */
export function parseRequirements(text: string): Requirement[] {
  return new Parser(tokensOf(text)).parse();
}

class Parser {
  readonly #tokens: readonly string[];
  #position = 0;

  constructor(tokens: readonly string[]) {
    this.#tokens = tokens;
  }

  parse(): Requirement[] {
    const found: Requirement[] = [];
    if (this.#next === "") return found;
    for (;;) {
      if (isSymbol(this.#next) && this.#next !== "!")
        throw badRequest(`found '${this.#next}', expected: !, identifier, or 'end of string'`);
      found.push(this.#requirement());
      const separator = this.#take();
      if (separator === "") return found;
      if (separator !== ",") throw badRequest(`found '${separator}', expected: ',' or 'end of string'`);
      if (this.#next === "" || (isSymbol(this.#next) && this.#next !== "!"))
        throw badRequest(`found '${this.#next}', expected: identifier after ','`);
    }
  }

  get #next(): string {
    return this.#tokens[this.#position] ?? "";
  }

  #take(): string {
    const token = this.#next;
    this.#position++;
    return token;
  }

  #requirement(): Requirement {
    const absent = this.#next === "!";
    if (absent) this.#take();
    const key = this.#take();
    if (key === "" || isSymbol(key)) throw unreadable(key, "identifier");
    checkKey(key);
    if (absent) return (labels) => !Object.hasOwn(labels, key);
    if (this.#next === "" || this.#next === ",") return (labels) => Object.hasOwn(labels, key);
    const operator = this.#take();
    const has = (labels: Labels, values: readonly string[]): boolean =>
      Object.hasOwn(labels, key) && values.includes(labels[key] ?? "");
    switch (operator) {
      case "in":
      case "notin": {
        const values = this.#set();
        values.forEach((value, index) => checkValue(key, value, index));
        return operator === "in" ? (labels) => has(labels, values) : (labels) => !has(labels, values);
      }
      case "=":
      case "==":
      case "!=": {
        const value = this.#value();
        checkValue(key, value, 0);
        return operator === "!=" ? (labels) => !has(labels, [value]) : (labels) => has(labels, [value]);
      }
      case ">":
      case "<":
        return comparison(key, operator, this.#value());
      default:
        throw unreadable(operator, OPERATORS.join(", "));
    }
  }

  #value(): string {
    if (this.#next === "" || this.#next === ",") return "";
    const value = this.#take();
    if (isSymbol(value)) throw unreadable(value, "identifier");
    return value;
  }

  /** Values in brackets; a place without a value is an empty one. */
  #set(): string[] {
    const open = this.#take();
    if (open !== "(") throw badRequest(`unable to parse requirement: found '${open}' expected: '('`);
    const values: string[] = [];
    for (;;) {
      if (this.#next !== "," && this.#next !== ")") {
        const value = this.#take();
        if (value === "" || isSymbol(value)) throw unreadable(value, "',', ')' or identifier");
        values.push(value);
      } else values.push("");
      const separator = this.#take();
      if (separator === ")") return values;
      if (separator !== ",") throw unreadable(separator, "',' or ')'");
    }
  }
}

function isSymbol(token: string): boolean {
  return SYMBOLS.has(token);
}

function unreadable(found: string, expected: string): Error {
  return badRequest(`unable to parse requirement: found '${found}', expected: ${expected}`);
}

function refused(field: string, value: string, problem: string): Error {
  return badRequest(`unable to parse requirement: ${field}: Invalid value: ${JSON.stringify(value)}: ${problem}`);
}

function comparison(key: string, operator: ">" | "<", value: string): Requirement {
  if (!/^[-+]?\d+$/.test(value))
    throw refused("values[0]", value, "for 'Gt', 'Lt' operators, the value must be an integer");
  return (labels) => {
    const label = labels[key] ?? "";
    return (
      /^[-+]?\d+$/.test(label) && (operator === ">" ? Number(label) > Number(value) : Number(label) < Number(value))
    );
  };
}

function checkKey(key: string): void {
  const problem = qualifiedNameProblems(key)[0];
  if (problem !== undefined) throw refused("<nil>", key, problem);
}

function checkValue(key: string, value: string, index: number): void {
  const problem = labelValueProblems(value)[0];
  if (problem !== undefined) throw refused(`values[${index}][${key}]`, value, problem);
}
