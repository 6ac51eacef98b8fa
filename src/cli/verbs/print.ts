/** Print: objects in the form that `-o` asks for: a table, YAML, JSON, or a Go template's. */
import { readFile } from "node:fs/promises";
import { UsageError } from "../../lib/command-line.ts";
import { type JsonObject, type JsonValue, isJsonObject } from "../../model/schema/json.ts";
import { InputError } from "../inventory.ts";
import { Refusal } from "./failures.ts";
import type { ServedKind } from "./kinds.ts";
import { runTemplate } from "./template/run.ts";
import { formatYaml } from "./yaml-text.ts";

export type Output =
  | { readonly type: "table"; readonly wide: boolean; readonly headings: readonly string[] | undefined }
  | { readonly type: "yaml" | "json" }
  | { readonly type: "template"; readonly text: string };

export const OUTPUTS = ["ps", "wide", "yaml", "json", "custom-columns=", "go-template=", "go-template-file="] as const;

/** Rejects with UsageError for a form that is not known, with InputError for a template file that cannot be read. */
export async function outputOf(text: string): Promise<Output> {
  const [key = "", ...rest] = text.split("=");
  const value = rest.join("=");
  switch (key) {
    case "ps":
    case "wide":
      return { type: "table", wide: key === "wide", headings: undefined };
    case "yaml":
    case "yml":
      return { type: "yaml" };
    case "json":
      return { type: "json" };
    case "custom-columns":
      if (value === "") throw new UsageError("need to specify at least one column: custom-columns=NAME,SELECTOR");
      return { type: "table", wide: false, headings: value.split(",") };
    case "go-template":
      if (value === "") throw new UsageError("need to specify a template: go-template='{{range .}}…{{end}}'");
      return { type: "template", text: value };
    case "go-template-file":
      if (value === "") throw new UsageError("need to specify a template file: go-template-file=FILE");
      return { type: "template", text: await templateFile(value) };
    default:
      throw new UsageError(`unrecognized output format '${text}': it must be ${OUTPUTS.join(", ")}`);
  }
}

async function templateFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new InputError(
      `Cannot read ${JSON.stringify(path)}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** Throws UsageError for a column that the kind does not have. */
export function headingsOf(
  { columns, wide, cells }: ServedKind,
  output: Output & { readonly type: "table" },
  withNamespace: boolean,
): readonly string[] {
  const headings = output.headings ?? (output.wide ? wide : columns);
  const unknown = headings.find((heading) => cells[heading] === undefined);
  if (unknown !== undefined)
    throw new UsageError(`unknown heading ${unknown}, valid values are: ${Object.keys(cells).join(", ")}`);
  const isAdded = withNamespace && output.headings === undefined && cells["NAMESPACE"] !== undefined;
  return isAdded ? ["NAMESPACE", ...headings] : headings;
}

export function rowOf({ cells }: ServedKind, headings: readonly string[], object: JsonObject): readonly string[] {
  return headings.map((heading) => cells[heading]?.(object) ?? "");
}

/** Upstream prints one result alone, several as a list. Throws Refusal for a template that cannot be executed. */
export function printObjects(output: Output, results: readonly JsonObject[]): string {
  const one = results[0];
  const value: JsonValue = results.length === 1 && one !== undefined ? one : [...results];
  switch (output.type) {
    case "yaml":
      return formatYaml(value);
    case "json":
      return `${JSON.stringify(sorted(value), undefined, 2)}\n`;
    case "template":
      return runTemplate(output.text, [...results]);
    case "table":
      throw new Refusal("a table has rows, not objects");
  }
}

/** Fields in alphabetical order, as kubectl prints them. */
function sorted(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isJsonObject(value)) return value;
  const fields = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(fields.map(([name, item]) => [name, sorted(item)]));
}
