/**
 * Run files: `create`, `apply`, `replace`, `delete` and `validate` of the objects in files, and `delete` of objects by name. Nothing is sent
 * unless every object is valid. Tiers come before the policies in them, and go after them.
 */
import type { Store } from "../../datastore/store.ts";
import type { JsonObject } from "../../model/schema/json.ts";
import { adviceOf } from "./advice.ts";
import { type BatchOptions, forAll, type Outcomes } from "./batch.ts";
import { completed, errorsOf } from "./check.ts";
import { Refusal } from "./failures.ts";
import { type Given, type GivenOptions, placeText, type Problem, readGiven, refuseUnreadable } from "./given.ts";
import { refusalOf, tierChecker } from "./guards.ts";
import { objectText, storedIn } from "./kinds.ts";
import { NOTHING, type Result, summarize, summarizeProblems } from "./report.ts";
import { openWriter, type Wanted, type Writer } from "./writes.ts";

export type FileVerb = "create" | "apply" | "replace" | "delete";

/** An object to handle, and where it is written; undefined when the command line names it. */
export interface Task extends Wanted {
  readonly where: string | undefined;
}

export interface Tasks {
  readonly tasks: readonly Task[];
  readonly notes: readonly string[];
}

/** The valid objects of the files, or what is wrong with them. Rejects with InputError when a file cannot be read. */
export async function readTasks(verb: FileVerb, options: GivenOptions): Promise<Tasks | Result> {
  const given = await readGiven(options);
  refuseUnreadable(given);
  const { objects, problems, notes } = given;
  // What is deleted needs only a name.
  const found = inOrder([...problems, ...(verb === "delete" ? [] : objects.flatMap(problemsOf))]);
  if (found.length > 0) {
    const all = objects.length + problems.length;
    const kinds = [
      ...objects.map(({ kind }) => kind.name),
      ...problems.map(({ object }) => object?.split("(")[0] ?? ""),
    ];
    return summarizeProblems(verb, found, all, kinds);
  }
  const tasks = objects.map(({ place, kind, namespace, name, object }) => ({
    kind,
    namespace,
    name,
    object: completed(kind, object),
    where: placeText(place),
  }));
  return { tasks, notes: [...notes, ...(verb === "delete" ? [] : objects.flatMap(adviceOf))] };
}

export function problemsOf({ place, kind, namespace, name, object }: Given): Problem[] {
  return errorsOf(kind, object).map((error) => ({ place, object: objectText(kind, namespace, name), error }));
}

function inOrder(problems: readonly Problem[]): readonly Problem[] {
  return problems.toSorted((a, b) => a.place.index - b.place.index);
}

export interface WriteOptions extends BatchOptions {
  /** create: what exists already is left as it is. */
  readonly skipExists: boolean;
  /** delete: what does not exist is no error. */
  readonly skipNotExists: boolean;
}

export async function writeTasks(
  verb: FileVerb,
  tasks: readonly Task[],
  store: Store,
  options: WriteOptions,
): Promise<Result> {
  if (tasks.length === 0) return NOTHING;
  const writer = openWriter({ store, sleep: options.sleep, admit: tierChecker(store) });
  const tiers = tasks.filter(({ kind }) => kind.kind === "Tier");
  const others = tasks.filter(({ kind }) => kind.kind !== "Tier");
  const failures = new Map<Task, Outcomes[number]>();
  for (const part of verb === "delete" ? [others, tiers] : [tiers, others]) {
    const outcomes = await forAll(
      part,
      (task) => operate(verb, { ...task, kind: storedIn(store, task.kind) }, writer),
      {
        ...options,
        tell: (done) => options.tell(failures.size + done, tasks.length),
      },
    );
    part.forEach((task, index) => failures.set(task, forgiven(outcomes[index], options)));
  }
  const handled = tasks.map((task) => ({
    kind: task.kind.name,
    object: objectText(task.kind, task.namespace, task.name),
    where: task.where,
    failure: failures.get(task),
  }));
  return summarize(verb, handled);
}

function operate(verb: FileVerb, task: Task, writer: Writer): Promise<void> {
  const refusal = refusalOf(verb, task.kind, task.namespace, task.name);
  return refusal === undefined ? writer[verb](task) : Promise.reject(new Refusal(refusal));
}

function forgiven(failure: Outcomes[number], { skipExists, skipNotExists }: WriteOptions): Outcomes[number] {
  if (failure === undefined || failure instanceof Refusal) return failure;
  return (skipExists && failure.reason === "exists") || (skipNotExists && failure.reason === "not-found")
    ? undefined
    : failure;
}

/** `-o json` of `validate`: what is wrong with each object, for programs. */
interface Finding {
  readonly file: string;
  readonly line: number;
  readonly document: number;
  readonly item: string;
  readonly object: string | null;
  readonly field: string;
  readonly reason: string;
  readonly value: JsonObject[string];
  readonly detail: string;
}

export async function runValidate(options: GivenOptions, output: "text" | "json"): Promise<Result> {
  const given = await readGiven(options);
  const { objects, problems, unreadable, notes } = given;
  const found = inOrder([...problems, ...objects.flatMap(problemsOf)]);
  const all = objects.length + problems.length;
  const warnings = [...notes, ...objects.flatMap(adviceOf)];
  if (output === "json") {
    const errors = [...unreadable, ...found].map(findingOf);
    const report = { valid: errors.length === 0, resources: all, errors, warnings };
    return { code: errors.length === 0 ? 0 : 1, out: `${JSON.stringify(report, undefined, 2)}\n`, error: "" };
  }
  refuseUnreadable(given);
  const result =
    all === 0
      ? NOTHING
      : found.length > 0
        ? partlyValid(objects, problems, found, all)
        : summarize("validate", objects.map(valid));
  return { ...result, error: `${warnings.map((text) => `warning: ${text}\n`).join("")}${result.error}` };
}

function valid({ kind, namespace, name, place }: Given): Parameters<typeof summarize>[1][number] {
  return { kind: kind.name, object: objectText(kind, namespace, name), where: placeText(place), failure: undefined };
}

function partlyValid(
  objects: readonly Given[],
  problems: readonly Problem[],
  found: readonly Problem[],
  all: number,
): Result {
  const bad = new Set(found.map(({ place }) => placeText(place))).size;
  const kinds = [...objects.map(({ kind }) => kind.name), ...problems.map(({ object }) => object?.split("(")[0] ?? "")];
  const result = summarizeProblems("validate", found, all, kinds);
  return bad === all ? result : { ...result, out: `Partial success: validated ${all - bad} out of ${all} resources\n` };
}

function findingOf({ place, object, error }: Problem): Finding {
  const { field, reason, value, detail } = error;
  const { index: _, ...where } = place;
  return { ...where, object: object ?? null, field, reason, value: (value ?? null) as JsonObject[string], detail };
}
