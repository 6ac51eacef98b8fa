/**
 * Template syntax: the text of a Go template as a tree. Known are text, fields, variables, pipelines, calls, if, range, with, else, comments and
 * trimming; define, template, block, break and continue are refused by name.
 * Source: https://pkg.go.dev/text/template
 */
import { Refusal } from "../failures.ts";
import { type Token, tokensOf } from "./tokens.ts";

export type Expression =
  | { readonly type: "literal"; readonly value: string | number | boolean | null }
  /** `.a.b` of the dot, `$x.a` of a variable, `(…).a` of a pipeline. */
  | { readonly type: "path"; readonly of: Expression | "dot"; readonly fields: readonly string[] }
  | { readonly type: "variable"; readonly name: string }
  | { readonly type: "call"; readonly name: string; readonly args: readonly Expression[] }
  | { readonly type: "pipeline"; readonly pipeline: Pipeline };

/** Commands, each given the result of the one before as its last argument. */
export interface Pipeline {
  /** `$i, $x := …` declares, `$x = …` sets. */
  readonly variables: readonly string[];
  readonly declares: boolean;
  readonly commands: readonly Expression[];
}

export type Node =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "print"; readonly pipeline: Pipeline }
  | {
      readonly type: "if" | "with" | "range";
      readonly pipeline: Pipeline;
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
    };

interface Action {
  readonly text: string;
  readonly isText: boolean;
}

/** Throws Refusal. */
export function parseTemplate(source: string): readonly Node[] {
  const actions = actionsOf(source);
  const parser = new Parser(actions);
  const nodes = parser.nodes();
  if (parser.ended !== undefined) throw fault(`unexpected {{${parser.ended}}}`);
  return nodes;
}

export function fault(detail: string): Refusal {
  return new Refusal(`go-template: ${detail}`);
}

/** Text and actions in turn; `{{-` and `-}}` take the white space beside them away. */
function actionsOf(source: string): Action[] {
  const actions: Action[] = [];
  let at = 0;
  let trim = false;
  const push = (text: string, trimEnd: boolean): void => {
    const left = trim ? text.trimStart() : text;
    actions.push({ text: trimEnd ? left.trimEnd() : left, isText: true });
  };
  for (;;) {
    const open = source.indexOf("{{", at);
    if (open < 0) {
      push(source.slice(at), false);
      return actions;
    }
    const close = endOfAction(source, open + 2);
    const inner = source.slice(open + 2, close);
    push(source.slice(at, open), /^-\s/.test(inner));
    trim = /\s-$/.test(inner);
    const text = inner
      .replace(/^-(?=\s)/, "")
      .replace(/(?<=\s)-$/, "")
      .trim();
    if (!text.startsWith("/*")) actions.push({ text, isText: false });
    at = close + 2;
  }
}

/** Where `}}` is, not counting those in quotes and comments. */
function endOfAction(source: string, begin: number): number {
  const pattern = /\/\*[^]*?\*\/|"(?:\\.|[^"\\\n])*"|`[^`]*`|\}\}/g;
  pattern.lastIndex = begin;
  for (let match = pattern.exec(source); match !== null; match = pattern.exec(source))
    if (match[0] === "}}") return match.index;
  throw fault("unclosed action: {{ without }}");
}

const REFUSED = /^(define|template|block|break|continue)\b/;

class Parser {
  readonly #actions: readonly Action[];
  #next = 0;
  /** The `end` or `else …` that ended the last list of nodes. */
  ended: string | undefined;

  constructor(actions: readonly Action[]) {
    this.#actions = actions;
  }

  nodes(): readonly Node[] {
    const nodes: Node[] = [];
    this.ended = undefined;
    while (this.#next < this.#actions.length) {
      const action = this.#actions[this.#next++];
      if (action === undefined) break;
      const { text, isText } = action;
      if (isText) nodes.push({ type: "text", text });
      else if (text === "end" || /^else\b/.test(text)) {
        this.ended = text;
        return nodes;
      } else nodes.push(this.#action(text));
    }
    return nodes;
  }

  #action(text: string): Node {
    const refused = REFUSED.exec(text)?.[0];
    if (refused !== undefined) throw fault(`{{${refused}}} is not supported by this calicoctl`);
    const [, word, rest = ""] = /^(if|with|range)\b([^]*)$/.exec(text) ?? [];
    if (word === undefined) return { type: "print", pipeline: parsePipeline(tokensOf(text)) };
    return this.#branch(word as "if" | "with" | "range", rest);
  }

  #branch(type: "if" | "with" | "range", condition: string): Node {
    const pipeline = parsePipeline(tokensOf(condition));
    const body = this.nodes();
    let otherwise: readonly Node[] = [];
    const ended: string | undefined = this.ended;
    const [, word, rest = ""] = /^else\s+(if|with)\b([^]*)$/.exec(ended ?? "") ?? [];
    // `else if` has no `end` of its own: the inner branch consumes it.
    if (word !== undefined) return { type, pipeline, body, otherwise: [this.#branch(word as "if" | "with", rest)] };
    if (ended === "else") otherwise = this.nodes();
    if (this.ended !== "end") throw fault(`{{${type}}} has no {{end}}`);
    this.ended = undefined;
    return { type, pipeline, body, otherwise };
  }
}

function parsePipeline(tokens: readonly Token[]): Pipeline {
  const assign = tokens.findIndex(({ type }) => type === ":=" || type === "=");
  const left = assign < 0 ? [] : tokens.slice(0, assign).filter(({ type }) => type !== ",");
  if (left.some(({ type }) => type !== "variable") || left.length > 2)
    throw fault(`only variables can be set: ${left.map(({ text }) => text).join(" ")}`);
  const stream = new Stream(tokens.slice(assign + 1));
  const commands = stream.commands();
  stream.end();
  return {
    variables: left.map(({ text }) => text),
    declares: tokens[assign]?.type === ":=",
    commands,
  };
}

class Stream {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#at];
  }

  end(): void {
    const token = this.#peek();
    if (token !== undefined) throw fault(`unexpected ${token.text}`);
  }

  commands(): readonly Expression[] {
    const commands = [this.#command()];
    while (this.#peek()?.type === "|") {
      this.#at++;
      commands.push(this.#command());
    }
    return commands;
  }

  #command(): Expression {
    const first = this.#peek();
    if (first?.type !== "word") {
      const operand = this.#operand();
      const next = this.#peek();
      if (next !== undefined && next.type !== "|" && next.type !== ")")
        throw fault(`${first?.text ?? ""} is no function`);
      return operand;
    }
    this.#at++;
    const args: Expression[] = [];
    for (
      let token = this.#peek();
      token !== undefined && token.type !== "|" && token.type !== ")";
      token = this.#peek()
    )
      args.push(this.#operand());
    return { type: "call", name: first.text, args };
  }

  #operand(): Expression {
    const token = this.#peek();
    this.#at++;
    switch (token?.type) {
      case "literal":
        return { type: "literal", value: token.value ?? null };
      case "field":
        return this.#fields("dot", token.text);
      case "variable":
        return this.#followed({ type: "variable", name: token.text });
      case "word":
        return { type: "call", name: token.text, args: [] };
      case "(": {
        const commands = this.commands();
        if (this.#peek()?.type !== ")") throw fault("( has no )");
        this.#at++;
        return this.#followed({ type: "pipeline", pipeline: { variables: [], declares: false, commands } });
      }
      default:
        throw fault(token === undefined ? "a value is missing" : `unexpected ${token.text}`);
    }
  }

  /** Fields directly behind a variable or a parenthesis. */
  #followed(of: Expression): Expression {
    const token = this.#peek();
    if (token?.type !== "field" || !token.isAttached || token.text === ".") return of;
    this.#at++;
    return this.#fields(of, token.text);
  }

  #fields(of: Expression | "dot", text: string): Expression {
    return { type: "path", of, fields: text.split(".").filter((name) => name !== "") };
  }
}
