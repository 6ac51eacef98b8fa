/** Run change: `calicoctl patch` and `calicoctl label`: changes of one stored object. The result is validated before it is written. */
import type { Store } from "../../datastore/store.ts";
import { UsageError } from "../../lib/command-line.ts";
import { labelKeyErrors, labelValueErrors } from "../../model/labels.ts";
import { type JsonObject, type JsonValue, objectAt } from "../../model/schema/json.ts";
import { readDocuments } from "../documents.ts";
import { SyntaxFault } from "../yaml.ts";
import { completed, errorsOf, errorText } from "./check.ts";
import { failureText, isFailure, Refusal, type Verb } from "./failures.ts";
import { refusalOf } from "./guards.ts";
import { objectText, storedIn } from "./kinds.ts";
import { patched, type PatchType } from "./patch.ts";
import type { Result } from "./report.ts";
import type { Named } from "./run-get.ts";
import { openWriter } from "./writes.ts";

type Sleep = (ms: number) => Promise<void>;

/** The patch that the text is: JSON, or YAML as in files. Throws UsageError. */
export function parsePatch(text: string): JsonValue {
  try {
    const documents = readDocuments(new TextEncoder().encode(text));
    const [first] = documents;
    if (first !== undefined && documents.length === 1) return first.value;
    throw new UsageError(`--patch must be one document of JSON or YAML, not ${documents.length}`);
  } catch (error) {
    if (!(error instanceof SyntaxFault)) throw error;
    throw new UsageError(`--patch cannot be read: line ${error.line}: ${error.message}`);
  }
}

export async function runPatch(
  store: Store,
  named: Named,
  patch: JsonValue,
  type: PatchType,
  sleep: Sleep,
): Promise<Result> {
  const failure = await change(store, "patch", named, sleep, (stored) => {
    const result = completed(named.kind, patched(stored, patch, type));
    refuseOtherIdentity(stored, result);
    const errors = errorsOf(named.kind, result);
    if (errors.length > 0) throw new Refusal(`the result is invalid: ${errors.map(errorText).join("; ")}`);
    return result;
  });
  if (failure === undefined)
    return { code: 0, out: `Successfully patched 1 '${named.kind.name}' resource\n`, error: "" };
  return {
    code: 1,
    out: "",
    error: `calicoctl patch: hit error: Failed to patch '${named.kind.name}' resource: ${failure}\n`,
  };
}

/** A patch changes an object; it does not make it another one. */
function refuseOtherIdentity(stored: JsonObject, result: JsonObject): void {
  const [before, after] = [objectAt(stored["metadata"]), objectAt(result["metadata"])];
  for (const field of ["apiVersion", "kind"])
    if (result[field] !== stored[field]) throw new Refusal(`${field} cannot be changed by a patch`);
  for (const field of ["name", "namespace", "uid"])
    if (after[field] !== before[field]) throw new Refusal(`metadata.${field} cannot be changed by a patch`);
  if (after["resourceVersion"] !== before["resourceVersion"])
    throw new Refusal(
      `resource version ${JSON.stringify(after["resourceVersion"] ?? null)} of the patch is out of date (latest: ${JSON.stringify(before["resourceVersion"] ?? null)})`,
    );
}

export interface LabelOptions {
  /** As the user wrote them, for messages. */
  readonly kindWord: string;
  readonly labels: readonly string[];
  readonly overwrite: boolean;
  readonly remove: boolean;
}

interface LabelChange {
  readonly key: string;
  /** undefined: remove. */
  readonly value: string | undefined;
}

export async function runLabel(store: Store, named: Named, options: LabelOptions, sleep: Sleep): Promise<Result> {
  const changes = options.labels.map((text) => labelChange(text, options.remove));
  const target = `${options.kindWord} ${named.name}`;
  let lines: string[] = [];
  const failure = await change(store, "label", named, sleep, (stored) => {
    const metadata = objectAt(stored["metadata"]);
    const labels: JsonObject = { ...objectAt(metadata["labels"]) };
    lines = changes.map((each) => applyLabel(labels, each, target, options.overwrite));
    return { ...stored, metadata: { ...metadata, labels } };
  });
  if (failure === undefined) return { code: 0, out: lines.map((line) => `${line}\n`).join(""), error: "" };
  return { code: 1, out: "", error: `calicoctl label: ${failure}\n` };
}

/** Throws UsageError. */
function labelChange(text: string, isRemoval: boolean): LabelChange {
  const [key = "", ...rest] = text.split("=");
  if (isRemoval) {
    if (rest.length > 0) throw new UsageError(`invalid label ${text}: --remove takes the key alone`);
    return { key, value: undefined };
  }
  if (rest.length === 0) throw new UsageError(`invalid label ${text}: it must be KEY=VALUE, or KEY with --remove`);
  const value = rest.join("=");
  const [error] = [...labelKeyErrors(key), ...labelValueErrors(value)];
  if (error !== undefined) throw new UsageError(`invalid label ${text}: ${error}`);
  return { key, value };
}

function applyLabel(labels: JsonObject, { key, value }: LabelChange, target: string, overwrite: boolean): string {
  const before = Object.hasOwn(labels, key) ? labels[key] : undefined;
  if (value === undefined) {
    if (before === undefined) throw new Refusal(`cannot remove label of ${target}, key ${key} does not exist`);
    delete labels[key];
    return `Successfully removed label ${key} from ${target}`;
  }
  if (before !== undefined && before !== value && !overwrite)
    throw new Refusal(
      `failed to update label of ${target}, key ${key} is already present. please use '--overwrite' to set a new value`,
    );
  labels[key] = value;
  return before === undefined
    ? `Successfully set label ${key} on ${target}`
    : `Successfully updated label ${key} on ${target}`;
}

/** Why it was not changed, or undefined. */
async function change(
  store: Store,
  verb: Verb,
  served: Named,
  sleep: Sleep,
  edit: (stored: JsonObject) => JsonObject,
): Promise<string | undefined> {
  const named = { ...served, kind: storedIn(store, served.kind) };
  const refusal = refusalOf(verb, named.kind, named.namespace, named.name);
  if (refusal !== undefined) return refusal;
  const writer = openWriter({ store, sleep, admit: () => Promise.resolve() });
  try {
    await writer.change(named, edit);
    return undefined;
  } catch (error) {
    if (!isFailure(error)) throw error;
    return failureText(error, objectText(named.kind, named.namespace, named.name), verb);
  }
}
