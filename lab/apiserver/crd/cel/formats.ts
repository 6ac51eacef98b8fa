/**
 * Formats: the CEL functions of Kubernetes for text with a form of its own: `url`, the named formats (`format.dns1123Label().validate(…)`)
 * and semantic versions.
 *
 * Source: apiserver pkg/cel/library/{urls,format,semverlib}.go; Go's net/url; https://semver.org.
 */
import { type Environment, Optional } from "@marcbachmann/cel-js";
import { labelValueProblems, nameProblems, qualifiedNameProblems } from "../../objects/metadata.ts";

type Add = (signature: string, handler: (...args: never[]) => unknown) => void;

export function registerFormats(environment: Environment): void {
  const add: Add = (signature, handler) => void environment.registerFunction(signature, handler, { async: false });
  registerUrls(environment, add);
  registerNamedFormats(environment, add);
  registerVersions(environment, add);
}

/** A URL as Go reads it: parts are kept as written, but for the query. */
class Url {
  readonly scheme: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
  readonly text: string;
  constructor(text: string, scheme: string, host: string, path: string, query: string) {
    this.text = text;
    this.scheme = scheme;
    this.host = host;
    this.path = path;
    this.query = query;
  }
}

/** A fragment is part of what stands before it, as in a request. */
const URL_PARTS = /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?:\/\/([^/?]*))?([^?]*)(?:\?(.*))?$/;
const HOST =
  /^(?:\[[0-9A-Fa-f:.]+(?:%25[^\]]+)?\]|(?:[A-Za-z0-9._~!$&'()*+,;=<>"-]|\P{ASCII}|%[89A-Fa-f][0-9A-Fa-f])*?)(?::\d*)?$/u;

/** Only what is absolute: with a scheme, or a path from the root. */
function parseUrl(text: string): Url | string {
  const problem = (words: string): string => `parse ${JSON.stringify(text)}: ${words}`;
  if (text === "") return problem("empty url");
  if (/[\p{Cc}--[\x80-\x9f]]/v.test(text)) return problem("net/url: invalid control character in URL");
  const [, scheme, authority, path = "", query = ""] = URL_PARTS.exec(text) ?? [];
  if (scheme === undefined && text.startsWith(":")) return problem("missing protocol scheme");
  if (scheme === undefined && (/^[^/?#]*:/.test(text) || (!text.startsWith("/") && text !== "*")))
    return problem(
      /^[^/?#]*:/.test(text) && /^\d/.test(text)
        ? "first path segment in URL cannot contain colon"
        : "invalid URI for request",
    );
  const broken = /%(?![0-9A-Fa-f]{2}).{0,2}/.exec(path);
  if (broken !== null) return problem(`invalid URL escape ${JSON.stringify(broken[0])}`);
  const [, user = "", host = ""] = /^(?:(.*)@)?(.*)$/.exec(authority ?? "") ?? [];
  if (!/^[\w\-.:~!$&'()*+,;=%@]*$/.test(user)) return problem("net/url: invalid userinfo");
  if (!HOST.test(host)) return problem(`invalid character in host name ${JSON.stringify(host)}`);
  const isOpaque = authority === undefined && !path.startsWith("/");
  const [plainPath = ""] = path.split("#");
  return new Url(
    text,
    (scheme ?? "").toLowerCase(),
    host,
    isOpaque ? "" : plainPath,
    path.includes("#") ? "" : (query.split("#")[0] ?? ""),
  );
}

function registerUrls(environment: Environment, add: Add): void {
  environment.registerType("kubernetes.URL", Url);
  environment.registerOperator("kubernetes.URL == kubernetes.URL", (a: Url, b: Url) => a.text === b.text);
  add("url(string): kubernetes.URL", (text: string) => {
    const url = parseUrl(text);
    if (typeof url === "string") throw new Error(`URL parse error during conversion from string: ${url}`);
    return url;
  });
  add("isURL(string): bool", (text: string) => parseUrl(text) instanceof Url);
  add("kubernetes.URL.getScheme(): string", (url: Url) => url.scheme);
  add("kubernetes.URL.getHost(): string", (url: Url) => decode(url.host));
  add("kubernetes.URL.getHostname(): string", (url: Url) =>
    decode(url.host.replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1")),
  );
  add("kubernetes.URL.getPort(): string", (url: Url) => /:(\d*)$/.exec(url.host)?.[1] ?? "");
  add("kubernetes.URL.getEscapedPath(): string", (url: Url) =>
    url.path.replace(/[^A-Za-z0-9%\-._~!$&'()*+,;=:@/[\]]/gu, encodeURIComponent),
  );
  add("kubernetes.URL.getQuery(): map<string, list<string>>", (url: Url) => queryOf(url.query));
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Pairs that cannot be read are left out, as Go does. */
function queryOf(query: string): Map<string, string[]> {
  const values = new Map<string, string[]>();
  for (const pair of query.split("&")) {
    if (pair === "" || pair.includes(";") || /%(?![0-9A-Fa-f]{2})/.test(pair)) continue;
    const [key = "", ...rest] = pair.replaceAll("+", " ").split("=");
    const name = decode(key);
    values.set(name, [...(values.get(name) ?? []), decode(rest.join("="))]);
  }
  return values;
}

class NamedFormat {
  readonly problems: (text: string) => readonly string[];
  constructor(problems: (text: string) => readonly string[]) {
    this.problems = problems;
  }
}

/** The namespace of `format.uri()`. */
class FormatNamespace {}

const matching =
  (pattern: RegExp, words: string) =>
  (text: string): readonly string[] =>
    pattern.test(text) ? [] : [words];
/** A name that ends in a dash may become one by what is appended. */
const asPrefix = (text: string): string => (text.length > 1 && text.endsWith("-") ? `${text.slice(0, -2)}a` : text);
const isDay = (text: string): boolean => new Date(`${text}T00:00:00Z`).toJSON()?.startsWith(text) === true;

const FORMATS: ReadonlyMap<string, NamedFormat> = new Map(
  Object.entries({
    dns1123Label: (text: string) => nameProblems("label", text),
    dns1123Subdomain: (text: string) => nameProblems("subdomain", text),
    dns1035Label: (text: string) => nameProblems("service", text),
    qualifiedName: qualifiedNameProblems,
    dns1123LabelPrefix: (text: string) => nameProblems("label", asPrefix(text)),
    dns1123SubdomainPrefix: (text: string) => nameProblems("subdomain", asPrefix(text)),
    dns1035LabelPrefix: (text: string) => nameProblems("service", asPrefix(text)),
    labelValue: labelValueProblems,
    uri: (text: string) => [parseUrl(text)].filter((result) => typeof result === "string"),
    uuid: matching(
      /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i,
      "does not match the UUID format",
    ),
    byte: matching(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, "invalid base64"),
    date: (text: string) => (/^\d{4}-\d\d-\d\d$/.test(text) && isDay(text) ? [] : ["invalid date"]),
    datetime: (text: string) =>
      /^\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/.test(text) &&
      isDay(text.slice(0, 10))
        ? []
        : ["invalid datetime"],
  }).map(([name, problems]) => [name, new NamedFormat(problems)]),
);

function registerNamedFormats(environment: Environment, add: Add): void {
  environment.registerType("kubernetes.NamedFormat", NamedFormat);
  environment.registerType("kubernetes.FormatNamespace", FormatNamespace);
  environment.registerConstant("format", "kubernetes.FormatNamespace", new FormatNamespace());
  environment.registerOperator(
    "kubernetes.NamedFormat == kubernetes.NamedFormat",
    (a: NamedFormat, b: NamedFormat) => a === b,
  );
  add(
    "kubernetes.FormatNamespace.named(string): optional<kubernetes.NamedFormat>",
    (_: FormatNamespace, name: string) => Optional.of(FORMATS.get(name)),
  );
  for (const [name, format] of FORMATS)
    add(`kubernetes.FormatNamespace.${name}(): kubernetes.NamedFormat`, () => format);
  add("kubernetes.NamedFormat.validate(string): optional<list<string>>", (format: NamedFormat, text: string) => {
    const problems = format.problems(text);
    return problems.length === 0 ? Optional.none() : Optional.of([...problems]);
  });
}

class Version {
  /** Major, minor and patch. */
  readonly numbers: readonly [bigint, bigint, bigint];
  readonly pre: readonly string[];
  constructor(numbers: readonly [bigint, bigint, bigint], pre: readonly string[]) {
    this.numbers = numbers;
    this.pre = pre;
  }
}

const VERSION =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/;

function parseVersion(text: string, normalize: boolean): Version | undefined {
  const match = VERSION.exec(normalize ? normalized(text) : text);
  if (match === null) return undefined;
  const [, major = "", minor = "", patch = "", pre] = match;
  return new Version([BigInt(major), BigInt(minor), BigInt(patch)], pre === undefined ? [] : pre.split("."));
}

/** Without a leading v and leading zeros, and with the numbers that are missing. */
function normalized(text: string): string {
  const [major = "", minor, ...rest] = text.replace(/^v/, "").split(".");
  const parts = [major, ...(minor === undefined ? [] : [minor]), ...(rest.length === 0 ? [] : [rest.join(".")])].map(
    (part) => part.replace(/^0+(?=\d)/, ""),
  );
  if (parts.length < 3 && /[+-]/.test(parts.at(-1) ?? "")) return text;
  return [...parts, "0", "0"].slice(0, 3).join(".");
}

function compareVersions(a: Version, b: Version): number {
  for (const index of [0, 1, 2] as const)
    if (a.numbers[index] !== b.numbers[index]) return a.numbers[index] < b.numbers[index] ? -1 : 1;
  if (a.pre.length === 0 || b.pre.length === 0) return Number(a.pre.length === 0) - Number(b.pre.length === 0);
  for (let index = 0; index < Math.min(a.pre.length, b.pre.length); index++) {
    const order = compareIdentifiers(a.pre[index] ?? "", b.pre[index] ?? "");
    if (order !== 0) return order;
  }
  return Math.sign(a.pre.length - b.pre.length);
}

/** Numbers come before words. */
function compareIdentifiers(a: string, b: string): number {
  if (a === b) return 0;
  const [aNumeric, bNumeric] = [/^\d+$/.test(a), /^\d+$/.test(b)];
  if (aNumeric && bNumeric) return BigInt(a) < BigInt(b) ? -1 : 1;
  if (aNumeric !== bNumeric) return aNumeric ? -1 : 1;
  return a < b ? -1 : 1;
}

function registerVersions(environment: Environment, add: Add): void {
  const read = (text: string, normalize = false): Version => {
    const version = parseVersion(text, normalize);
    if (version === undefined)
      throw new Error(`${JSON.stringify(text)} is no semantic version: must be like 1.2.3 or 1.2.3-rc.1`);
    return version;
  };
  environment.registerType("kubernetes.Semver", Version);
  environment.registerOperator(
    "kubernetes.Semver == kubernetes.Semver",
    (a: Version, b: Version) => compareVersions(a, b) === 0,
  );
  add("semver(string): kubernetes.Semver", (text: string) => read(text));
  add("semver(string, bool): kubernetes.Semver", read);
  add("isSemver(string): bool", (text: string) => parseVersion(text, false) !== undefined);
  add(
    "isSemver(string, bool): bool",
    (text: string, normalize: boolean) => parseVersion(text, normalize) !== undefined,
  );
  add("kubernetes.Semver.major(): int", (version: Version) => version.numbers[0]);
  add("kubernetes.Semver.minor(): int", (version: Version) => version.numbers[1]);
  add("kubernetes.Semver.patch(): int", (version: Version) => version.numbers[2]);
  add("kubernetes.Semver.compareTo(kubernetes.Semver): int", (a: Version, b: Version) => BigInt(compareVersions(a, b)));
  add(
    "kubernetes.Semver.isGreaterThan(kubernetes.Semver): bool",
    (a: Version, b: Version) => compareVersions(a, b) > 0,
  );
  add("kubernetes.Semver.isLessThan(kubernetes.Semver): bool", (a: Version, b: Version) => compareVersions(a, b) < 0);
}
