/**
 * YAML: the documents of a text exactly as kubectl reads them, which is YAML 1.1 as `go-yaml` version 2 has it: `yes`, `on` and `y` are
 * booleans, `0777` is octal, base 60 is text, `<<` merges in the order of the lines, and keys become text as in JSON.
 *
 * Stricter in two points, in which kubectl would silently lose content: a key given twice in a mapping, and text after a line `...`, are
 * refused.
 * Sources: k8s.io/apimachinery pkg/util/yaml (how documents are separated), sigs.k8s.io/yaml goyaml.v2 resolve.go and decode.go.
 */
import {
  EVENT_ID,
  type Event,
  getScalarValue,
  parseEvents,
  type ScalarEvent,
  SCALAR_STYLE,
  YAMLException,
} from "js-yaml";
import type { JsonObject, JsonValue } from "../model/schema/json.ts";

/** The text cannot be read; `line` counts from 1. */
export class SyntaxFault extends Error {
  override readonly name = "SyntaxFault";
  readonly line: number;
  constructor(line: number, reason: string) {
    super(reason);
    this.line = line;
  }
}

/** One document or object, and the line on which it begins, from 1. */
export interface Document {
  readonly value: JsonValue;
  readonly line: number;
}

/** Documents without content are left out. Throws SyntaxFault. */
export function readYaml(text: string): Document[] {
  return separate(text.replace(/\r\n?/g, "\n")).flatMap(({ source, line }) => readDocument(source, line));
}

interface Part {
  readonly source: string;
  readonly line: number;
}

/** Splits at lines `---`, before anything is parsed, as kubectl does. */
function separate(text: string): Part[] {
  const lines = text.split("\n");
  const parts: Part[] = [];
  let begin = 0;
  lines.forEach((line, index) => {
    if (!line.startsWith("---")) return;
    const rest = line.slice(3).trim();
    if (rest !== "" && !rest.startsWith("#"))
      throw new SyntaxFault(
        index + 1,
        `${JSON.stringify(line)} is no separator of documents: --- must stand alone on its line`,
      );
    parts.push({ source: lines.slice(begin, index).join("\n"), line: begin + 1 });
    begin = index + 1;
  });
  return [...parts, { source: lines.slice(begin).join("\n"), line: begin + 1 }];
}

function readDocument(source: string, firstLine: number): Document[] {
  const lineAt = (offset: number): number => firstLine + newlines(source, offset);
  try {
    const events = parseEvents(source, {});
    if (events.length === 0) return [];
    const { value, position } = new Reader(source, events).read();
    return value === null ? [] : [{ value, line: lineAt(position) }];
  } catch (error) {
    if (error instanceof PlacedFault) throw new SyntaxFault(lineAt(error.position), error.message);
    if (error instanceof YAMLException) throw new SyntaxFault(firstLine + (error.mark?.line ?? 0), error.reason);
    throw error;
  }
}

function newlines(text: string, end: number): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0 && at < end; at = text.indexOf("\n", at + 1)) count++;
  return count;
}

/** A fault at an offset of the document. */
class PlacedFault extends Error {
  readonly position: number;
  constructor(position: number, message: string) {
    super(message);
    this.position = position;
  }
}

/** A node as the reader needs it: its value, and whether it is the plain text `<<`. */
interface Node {
  readonly value: JsonValue;
  readonly position: number;
  readonly isMerge: boolean;
}

/** Builds the value of the one document that the events describe. */
class Reader {
  readonly #source: string;
  readonly #events: readonly Event[];
  readonly #anchors = new Map<string, JsonValue>();
  #next = 0;

  constructor(source: string, events: readonly Event[]) {
    this.#source = source;
    this.#events = events;
  }

  read(): Node {
    this.#next++;
    const first = this.#peek();
    const root =
      first === undefined || first.type === EVENT_ID.POP ? { value: null, position: 0, isMerge: false } : this.#node();
    this.#next++;
    if (this.#peek() !== undefined)
      throw new PlacedFault(
        this.#positionOf(this.#events[this.#next + 1]),
        'kubectl reads nothing after a line "...": begin a document with "---"',
      );
    return root;
  }

  #peek(): Event | undefined {
    return this.#events[this.#next];
  }

  #positionOf(event: Event | undefined): number {
    if (event === undefined || !("start" in event || "valueStart" in event || event.type === EVENT_ID.ALIAS))
      return this.#source.length;
    return "start" in event ? event.start : "valueStart" in event ? event.valueStart : event.anchorStart;
  }

  #node(): Node {
    const event = this.#peek();
    this.#next++;
    const position = this.#positionOf(event);
    switch (event?.type) {
      case EVENT_ID.ALIAS:
        return {
          value: this.#alias(this.#source.slice(event.anchorStart, event.anchorEnd), position),
          position,
          isMerge: false,
        };
      case EVENT_ID.SCALAR: {
        const value = this.#anchored(event, scalarOf(this.#source, event));
        return { value, position, isMerge: value === "<<" && event.style === SCALAR_STYLE.PLAIN && event.tagStart < 0 };
      }
      case EVENT_ID.SEQUENCE:
        return { value: this.#sequence(event), position, isMerge: false };
      case EVENT_ID.MAPPING:
        return { value: this.#mapping(event), position, isMerge: false };
      default:
        throw new PlacedFault(position, "a value is missing");
    }
  }

  #alias(name: string, position: number): JsonValue {
    const value = this.#anchors.get(name);
    if (value === undefined) throw new PlacedFault(position, `unknown anchor ${JSON.stringify(name)}`);
    return value;
  }

  #anchored<T extends JsonValue>(event: { readonly anchorStart: number; readonly anchorEnd: number }, value: T): T {
    if (event.anchorStart >= 0) this.#anchors.set(this.#source.slice(event.anchorStart, event.anchorEnd), value);
    return value;
  }

  #sequence(event: { readonly anchorStart: number; readonly anchorEnd: number }): JsonValue[] {
    const items: JsonValue[] = [];
    while (this.#peek()?.type !== EVENT_ID.POP) items.push(this.#node().value);
    this.#next++;
    return this.#anchored(event, items);
  }

  #mapping(event: { readonly anchorStart: number; readonly anchorEnd: number }): JsonObject {
    const mapping: JsonObject = {};
    const written = new Set<string>();
    while (this.#peek()?.type !== EVENT_ID.POP) {
      const key = this.#node();
      const { value, position } = this.#node();
      if (key.isMerge) {
        for (const source of mergeSources(value, position))
          for (const [name, merged] of Object.entries(source)) setField(mapping, name, merged);
        continue;
      }
      const name = keyText(key);
      if (written.has(name)) throw new PlacedFault(key.position, `key ${JSON.stringify(name)} is given twice`);
      written.add(name);
      setField(mapping, name, value);
    }
    this.#next++;
    return this.#anchored(event, mapping);
  }
}

/** Of several sources the first counts, so it is merged last. */
function mergeSources(value: JsonValue, position: number): JsonObject[] {
  const sources = Array.isArray(value) ? value.toReversed() : [value];
  return sources.map((source) => {
    if (typeof source === "object" && source !== null && !Array.isArray(source)) return source;
    throw new PlacedFault(position, "<< must have a mapping or a list of mappings");
  });
}

/** An ordinary field, whatever its name: `__proto__` too. */
function setField(object: JsonObject, name: string, value: JsonValue): void {
  Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
}

function keyText({ value, position }: Node): string {
  if (typeof value === "string" || typeof value === "boolean") return String(value);
  if (typeof value === "number") return String(value);
  throw new PlacedFault(
    position,
    `a key must be text, a number or a boolean, not ${value === null ? "null" : Array.isArray(value) ? "a list" : "a mapping"}`,
  );
}

type Scalar = string | number | boolean | null;

function scalarOf(source: string, event: ScalarEvent): Scalar {
  const text = getScalarValue(source, event);
  const tag = event.tagStart < 0 ? undefined : shortTag(source.slice(event.tagStart, event.tagEnd));
  if (tag === undefined) return event.style === SCALAR_STYLE.PLAIN ? finite(resolve(text), event, text) : text;
  if (tag === "!!binary") return decodeBase64(text, event.valueStart);
  const type = TYPES[tag];
  // Any other tag has no meaning here: the text stays.
  if (type === undefined) return text;
  const value = finite(resolve(text), event, text);
  if (type(value)) return value;
  throw new PlacedFault(event.valueStart, `cannot read ${JSON.stringify(text)} as ${tag}`);
}

function shortTag(tag: string): string {
  return tag.replace(/^!<(.*)>$/, "$1").replace(/^tag:yaml\.org,2002:/, "!!");
}

const TYPES: Readonly<Record<string, (value: Scalar) => boolean>> = {
  "!!int": (value) => Number.isInteger(value),
  "!!float": (value) => typeof value === "number",
  "!!bool": (value) => typeof value === "boolean",
  "!!null": (value) => value === null,
};

function finite(value: Scalar, event: ScalarEvent, text: string): Scalar {
  if (typeof value !== "number" || Number.isFinite(value)) return value;
  throw new PlacedFault(event.valueStart, `${text} has no form in JSON`);
}

function decodeBase64(text: string, position: number): string {
  try {
    return new TextDecoder().decode(Uint8Array.fromBase64(text.replace(/\s/g, "")));
  } catch {
    throw new PlacedFault(position, "!!binary must be base64");
  }
}

const WORDS = new Map<string, Scalar>([
  ...["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"].map((word) => [word, true] as const),
  ...["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"].map((word) => [word, false] as const),
  ...["", "~", "null", "Null", "NULL"].map((word) => [word, null] as const),
  ...[".nan", ".NaN", ".NAN"].map((word) => [word, Number.NaN] as const),
  ...["", "+"].flatMap((sign) =>
    ["inf", "Inf", "INF"].map((word) => [`${sign}.${word}`, Number.POSITIVE_INFINITY] as const),
  ),
  ...["inf", "Inf", "INF"].map((word) => [`-.${word}`, Number.NEGATIVE_INFINITY] as const),
]);

/** The value of a plain scalar. */
function resolve(text: string): Scalar {
  const word = WORDS.get(text);
  if (word !== undefined) return word;
  if (!/^[-+.\d]/.test(text)) return text;
  if (text.startsWith(".")) return FLOAT.test(text) ? Number(text) : text;
  const plain = text.replaceAll("_", "");
  return integer(plain) ?? (FLOAT.test(plain) ? Number(plain) : text);
}

const FLOAT = /^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$/;
const BASES: readonly (readonly [RegExp, number])[] = [
  [/^0[bB]([01]+)$/, 2],
  [/^0[oO]?([0-7]+)$/, 8],
  [/^0[xX]([\da-fA-F]+)$/, 16],
  [/^(0|[1-9]\d*)$/, 10],
];

/** Base 2, 8, 10 or 16 by prefix, with or without a sign; `0777` is octal, and `08` is none of these. */
function integer(text: string): number | undefined {
  const negative = text.startsWith("-");
  const digits = text.replace(/^[-+]/, "");
  for (const [form, base] of BASES) {
    const match = form.exec(digits)?.[1];
    if (match === undefined) continue;
    const value = base === 10 ? Number(match) : Number.parseInt(match, base);
    return negative && value !== 0 ? -value : value;
  }
  return undefined;
}
