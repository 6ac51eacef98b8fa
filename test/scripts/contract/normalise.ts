/**
 * normalise: answers with everything taken out that differs from one run to the next: names with a random part, uids, versions, times, ages,
 * addresses that the server chose. What remains is the same on every run against servers that answer alike.
 *
 * Also left out: `managedFields`, what tables say in words about a column, and that Kubernetes tells some causes of a refusal twice.
 */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/** Stands for the random part of names; of the same length, so that columns stay as wide. */
const SUFFIX = "xxxxxx";
const UUID = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g;
const TIME = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g;
/** As Kubernetes prints a duration for people, from milliseconds to years. Source: k8s.io/apimachinery/pkg/util/duration, HumanDuration. */
const DURATION = String.raw`(?:<invalid>|\d+(?:ms|s|m|h|d|y)(?:\d+[smhd])?)`;
const AGE = new RegExp(`^${DURATION}( ago)?$`);
const AGE_COLUMN = new RegExp(`(?<=^|  )${DURATION}(?=$|  )`, "g");
/** Addresses of services: the ranges of both servers lie in these. */
const SERVICE_ADDRESS = /^(10\.96\.\d+\.\d+|fd00:96::[0-9a-f:]*)$/;

const WORDS: readonly (readonly [RegExp, string])[] = [
  [/x{300,}/g, "x…"],
  [UUID, "UID"],
  [TIME, "TIME"],
  // As Go prints a time of any zone, whose name is a number where it has no letters.
  [/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [+-]\d{4} (?:[A-Z]{2,5}|[+-]\d\d(?:\d\d)?)/g, "TIME"],
  [/\b(made-|kube-api-access-|E_)[a-z0-9]{5}\b/g, "$1RANDOM"],
  // The log of kubectl's own library.
  [/^[IWE]\d{4} .*\n/gm, ""],
  [/\b(too old resource version: )\d+ \(\d+\)/g, "$1VERSION (VERSION)"],
  [/\b(Too large resource version: )\d+(, current: )\d+/g, "$1VERSION$2VERSION"],
  [/\b(ResourceVersion in (?:precondition|record) \()\d+\)/g, "$1VERSION)"],
  [/\b(Key: )\/registry\/[^,]+/g, "$1KEY"],
  // Go prints the whole object, or a difference whose layout is random on purpose.
  [/(Invalid value: ")\{.*\}(": )/gs, "$1OBJECT$2"],
  [/\n\s*@@ .*?(\]?)$/gs, "$1"],
];

const MANAGED_YAML = /^ {2}managedFields:\n(?: {2}- .*\n| {4}.*\n)*/gm;
const MANAGED_JSON = /^ {8}"managedFields": \[\n(?:(?: {9,}.*|)\n)*? {8}\],\n/gm;

export class Normaliser {
  readonly #suffix: string;

  constructor(suffix: string) {
    this.#suffix = suffix;
  }

  text(text: string): string {
    return WORDS.reduce(
      (result, [pattern, replacement]) => result.replace(pattern, replacement),
      text.replaceAll(this.#suffix, SUFFIX),
    );
  }

  /** A path with its query. */
  path(path: string): string {
    return this.text(path)
      .replace(/\bresourceVersion=\d{2,}/g, "resourceVersion=VERSION")
      .replace(/\bcontinue=[\w-]{20,}/g, "continue=TOKEN");
  }

  /** Output of kubectl, older versions of which show `managedFields`: columns keep their order but not their width, which ages change. */
  output(text: string): string {
    return this.text(text)
      .replace(MANAGED_YAML, "")
      .replace(MANAGED_JSON, "")
      .split("\n")
      .map((line) =>
        line
          .replace(/(?<=\S) {2,}|\t+/g, "  ")
          .replace(AGE_COLUMN, "AGE")
          .replace(/\b10\.96\.\d+\.\d+|\bfd00:96::[0-9a-f:]+/g, "SERVICE-ADDRESS")
          .trimEnd(),
      )
      .join("\n")
      .replace(/resourceVersion: "\d+"/g, 'resourceVersion: "VERSION"')
      .replace(/"resourceVersion": ?"\d+"/g, '"resourceVersion":"VERSION"');
  }

  /** A JSON value; objects keep no order. */
  value(value: unknown, name = ""): Json {
    if (typeof value === "string") return this.#string(value, name);
    if (typeof value === "number") return name === "nodePort" || name === "healthCheckNodePort" ? "PORT" : value;
    if (typeof value === "boolean" || value === null) return value;
    if (Array.isArray(value)) {
      const items = value.map((item) => this.value(item, name));
      return name === "causes" ? items.filter((item, index) => !Bun.deepEquals(item, items[index - 1])) : items;
    }
    if (typeof value !== "object" || value === undefined) throw new Error(`no JSON value: ${String(value)}`);
    const inDefinition = name === "columnDefinitions";
    const entries = Object.entries(value).filter(
      ([field]) => field !== "managedFields" && !(inDefinition && field === "description"),
    );
    const isTable = "columnDefinitions" in value || "rows" in value;
    return Object.fromEntries(
      entries
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([field, child]) => [
          this.text(field),
          isTable && field === "rows" && Array.isArray(child)
            ? child.map((row) => this.#row(row))
            : this.value(child, field),
        ]),
    );
  }

  #string(value: string, name: string): string {
    if (name === "resourceVersion" && /^[1-9]\d*$/.test(value)) return "VERSION";
    if (name === "continue" && value !== "") return "TOKEN";
    if (SERVICE_ADDRESS.test(value)) return value.includes(":") ? "SERVICE-ADDRESS6" : "SERVICE-ADDRESS";
    return this.text(value);
  }

  /** Ages are the only cells that time alone changes. */
  #row(row: unknown): Json {
    const result = this.value(row);
    if (typeof result !== "object" || result === null || Array.isArray(result)) return result;
    const { cells } = result as { readonly [field: string]: Json };
    return Array.isArray(cells)
      ? { ...result, cells: cells.map((cell: Json) => (typeof cell === "string" && AGE.test(cell) ? "AGE" : cell)) }
      : result;
  }
}
