/**
 * Given: the objects that the user wrote in files, each with its place: `policies.yaml:12 (document 2)`.
 *
 * All that can be said without a cluster is said here and in `check.ts`, about every object, before anything is sent.
 */
import { workloadEndpointName } from "../../model/kinds/workload-endpoint.ts";
import type { FieldError } from "../../model/schema/field-error.ts";
import { isJsonObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../../model/schema/json.ts";
import { itemsOf, readDocuments } from "../documents.ts";
import { InputError } from "../inventory.ts";
import { readSources, type Source } from "../sources.ts";
import { SyntaxFault } from "../yaml.ts";
import { extentError } from "./extent.ts";
import { NOT_YET, objectText, type ServedKind, SERVED } from "./kinds.ts";
import { nearest } from "./nearest.ts";

/** Where an object is. */
export interface Place {
  readonly file: string;
  readonly line: number;
  /** From 1, of those with content; 0 when the file is malformed. */
  readonly document: number;
  /** In a list: `items[3]`; empty for the document itself. */
  readonly item: string;
  /** In the order of all files. */
  readonly index: number;
}

export interface Given {
  readonly place: Place;
  readonly kind: ServedKind;
  readonly namespace: string | undefined;
  readonly name: string;
  /** As written, with apiVersion, kind and namespace as the API has them. */
  readonly object: JsonObject;
}

/** One thing that is wrong with one object. */
export interface Problem {
  readonly place: Place;
  /** `NetworkPolicy(shop/web)`, as far as it is known. */
  readonly object: string | undefined;
  readonly error: FieldError;
}

export interface GivenOptions {
  readonly files: readonly string[];
  readonly recursive: boolean;
  readonly skipEmpty: boolean;
  /** Of objects that name none; undefined: `default`. */
  readonly namespace: string | undefined;
  readonly stdin: () => Promise<Uint8Array>;
  /** The command that reads standard input, for hints: `calicoctl apply -f -`. */
  readonly reader: string;
}

export interface GivenObjects {
  readonly objects: readonly Given[];
  readonly problems: readonly Problem[];
  /** Files whose text is malformed. */
  readonly unreadable: readonly Problem[];
  readonly notes: readonly string[];
}

/** Rejects with InputError when a file is not there or has no objects. */
export async function readGiven(options: GivenOptions): Promise<GivenObjects> {
  const { files, recursive, skipEmpty, stdin, reader } = options;
  const { sources, warnings } = await readSources(files, recursive, stdin, { reader, mayBeEmpty: skipEmpty });
  const objects: Given[] = [];
  const problems: Problem[] = [];
  const seen = new Map<string, Place>();
  const unreadable: Problem[] = [];
  let count = 0;
  for (const source of sources) {
    const items = attemptItems(source, count);
    if ("error" in items) {
      unreadable.push(items);
      continue;
    }
    count += items.length;
    if (items.length === 0 && !skipEmpty)
      throw new InputError(`no resources specified in file ${source.name}: --skip-empty skips such files`);
    for (const { value, place } of items) {
      const given = givenOf(value, place, options.namespace);
      if (!("error" in given)) {
        const twin = noteSeen(given, seen);
        if (twin === undefined) objects.push(given);
        else problems.push(twin);
      } else problems.push(given);
    }
  }
  return { objects, problems, unreadable, notes: warnings.map(({ text }) => text) };
}

interface PlacedValue {
  readonly value: JsonValue;
  readonly place: Place;
}

/** `before`: how many objects come before these. */
function itemsIn(source: Source, before: number): PlacedValue[] {
  const items = readDocuments(source.bytes).flatMap(({ value, line }, index) => {
    const error = extentError(value);
    if (error !== undefined) throw new SyntaxFault(line, error);
    // Upstream takes a list of objects for a document as well.
    const found = Array.isArray(value) ? value.flatMap((item, at) => itemsOf(item, `[${at}]`)) : itemsOf(value);
    return found.map((item) => ({ ...item, line, document: index + 1 }));
  });
  return items.map(({ value, path, line, document }, index) => ({
    value,
    place: { file: source.name, line, document, item: path, index: before + index },
  }));
}

function attemptItems(source: Source, before: number): PlacedValue[] | Problem {
  try {
    return itemsIn(source, before);
  } catch (error) {
    if (!(error instanceof SyntaxFault)) throw error;
    const place = { file: source.name, line: error.line, document: 0, item: "", index: before };
    return {
      place,
      object: undefined,
      error: { field: "<nil>", reason: "Invalid", value: null, detail: error.message },
    };
  }
}

/** Throws InputError when a file is malformed: what else is in it is not known. */
export function refuseUnreadable({ unreadable }: GivenObjects): void {
  if (unreadable.length === 0) return;
  const texts = unreadable.map(({ place, error }) => `Cannot read ${place.file}:${place.line}: ${error.detail}`);
  throw new InputError(`failed to execute command: ${texts.join("\n")}`);
}

function givenOf(value: JsonValue, place: Place, defaultNamespace: string | undefined): Given | Problem {
  const wrong = (field: string, found: unknown, detail: string, object?: string): Problem => ({
    place,
    object,
    error: { field, reason: "Invalid", value: found, detail },
  });
  if (!isJsonObject(value)) return wrong("<nil>", value, "must be an object");
  const { apiVersion, kind } = value;
  if (typeof kind !== "string") return wrong("kind", kind ?? null, "must be the name of a kind");
  const metadata = objectAt(value["metadata"]);
  const name = stringAt(metadata["name"]) || (kind === "WorkloadEndpoint" ? impliedName(value["spec"]) : "");
  const written = stringAt(metadata["namespace"]) || undefined;
  const loose = `${kind}(${written === undefined ? name : `${written}/${name}`})`;
  const candidates = kindsOf(kind);
  if (candidates.length === 0) return wrong("kind", kind, unknownKind(kind), loose);
  const found = candidates.find((candidate) => candidate.apiVersion === apiVersion);
  if (found === undefined) {
    const allowed = candidates.map((candidate) => candidate.apiVersion).join(" or ");
    return wrong("apiVersion", apiVersion ?? null, `must be ${allowed} for kind ${kind}`, loose);
  }
  const object = objectText(found, found.namespaced ? written : undefined, name);
  if (name === "")
    return {
      place,
      object,
      error: { field: "metadata.name", reason: "Required", value: undefined, detail: "the object needs a name" },
    };
  const mismatch = namespaceError(found, written, defaultNamespace);
  if (mismatch !== undefined) return wrong("metadata.namespace", written ?? null, mismatch, object);
  const namespace = found.namespaced ? (written ?? defaultNamespace ?? "default") : undefined;
  const placed = {
    ...value,
    kind: found.apiKind,
    metadata: { ...metadata, name, ...(namespace === undefined ? {} : { namespace }) },
  };
  return { place, kind: found, namespace, name, object: placed };
}

/** A WorkloadEndpoint's name follows from its spec; empty when that says too little. */
function impliedName(value: JsonValue | undefined): string {
  const spec = objectAt(value);
  const text = (field: string): string => stringAt(spec[field]);
  const [node, orchestrator, endpoint] = [text("node"), text("orchestrator"), text("endpoint")];
  const more = { workload: text("workload"), pod: text("pod"), containerID: text("containerID") };
  return workloadEndpointName({ node, orchestrator, endpoint, ...more }) ?? "";
}

/** The kinds that a file may mean; `CalicoPolicy` is another name of Calico's NetworkPolicy. */
function kindsOf(kind: string): readonly ServedKind[] {
  const wanted = kind === "CalicoPolicy" ? "NetworkPolicy" : kind;
  return SERVED.filter(
    ({ apiKind, name }) => apiKind === wanted && (kind !== "CalicoPolicy" || name === "NetworkPolicy"),
  );
}

export function unknownKind(kind: string): string {
  const names = [...new Set(SERVED.map(({ apiKind }) => apiKind))];
  if (isNotYet(kind)) return "is not handled by this calicoctl yet: use kubectl";
  const near = nearest(kind, names);
  return `is no kind that calicoctl handles${near === undefined ? `: ${names.join(", ")}` : `; did you mean ${near}?`}`;
}

function isNotYet(word: string): boolean {
  const lower = word.toLowerCase();
  return [...NOT_YET].some((kind) => [kind.toLowerCase(), `${kind.toLowerCase()}s`].includes(lower));
}

/** Upstream: handleNamespace in calicoctl/commands/common/resources.go. */
function namespaceError(kind: ServedKind, written: string | undefined, wanted: string | undefined): string | undefined {
  if (!kind.namespaced) {
    if (written !== undefined)
      return `must be absent: namespace should not be specified for a non-namespaced resource. ${kind.name} is not a namespaced resource`;
    return wanted === undefined ? undefined : `${kind.name} is not namespaced: leave -n away`;
  }
  return written === undefined || wanted === undefined || written === wanted
    ? undefined
    : `resource namespace does not match client namespace. ${written} != ${wanted}`;
}

function noteSeen(given: Given, seen: Map<string, Place>): Problem | undefined {
  const object = objectText(given.kind, given.namespace, given.name);
  const before = seen.get(object);
  if (before === undefined) {
    seen.set(object, given.place);
    return undefined;
  }
  const detail = `the same object is also in ${placeText(before)}: keep one of them`;
  return {
    place: given.place,
    object,
    error: { field: "metadata.name", reason: "Invalid", value: given.name, detail },
  };
}

/** `policies.yaml:12 (document 2, items[3])`. */
export function placeText({ file, line, document, item }: Place): string {
  return `${file}:${line} (document ${document}${item === "" ? "" : `, ${item}`})`;
}
