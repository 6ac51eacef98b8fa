/** Actions: from the flags of a verb to what it does: files and standard input, the cluster, progress on the terminal. */
import { UsageError } from "../../lib/command-line.ts";
import { type AccessOptions, withStore } from "./access.ts";
import type { BatchOptions } from "./batch.ts";
import { PAST, type Verb } from "./failures.ts";
import { type GivenOptions, readGiven, refuseUnreadable, unknownKind } from "./given.ts";
import { kindOfWord, type ServedKind } from "./kinds.ts";
import type { PatchType } from "./patch.ts";
import { headingsOf, outputOf } from "./print.ts";
import { type FileVerb, readTasks, runValidate, writeTasks } from "./run-files.ts";
import { parsePatch, runLabel, runPatch } from "./run-change.ts";
import { getAll, getNamed, type GetOptions, scopeOf } from "./run-get.ts";
import { NOTHING, type Result, summarizeProblems } from "./report.ts";

export interface FileFlags extends AccessOptions {
  readonly filename?: readonly string[];
  readonly recursive?: boolean;
  readonly skipEmpty?: boolean;
  readonly namespace?: string;
}

export interface GetFlags extends FileFlags {
  readonly output: string;
  readonly allNamespaces?: boolean;
  /** `-A`. */
  readonly all?: boolean;
  readonly export?: boolean;
}

export interface WriteFlags extends FileFlags {
  readonly skipExists?: boolean;
  readonly skipNotExists?: boolean;
  readonly output?: string;
}

export interface ChangeFlags extends AccessOptions {
  readonly namespace?: string;
  readonly patch?: string;
  readonly type?: PatchType;
  readonly overwrite?: boolean;
  readonly remove?: boolean;
}

export async function get(kindWord: string | undefined, names: readonly string[], flags: GetFlags): Promise<Result> {
  const isAll = flags.allNamespaces === true || flags.all === true;
  const output = await outputOf(flags.output);
  const options: GetOptions = {
    output,
    showNamespace: isAll || flags.namespace !== undefined,
    isExport: flags.export === true,
    batch: batchOptions("get"),
  };
  if (flags.filename !== undefined) {
    if (kindWord !== undefined)
      throw new UsageError("a kind and -f exclude each other: objects are named in one place");
    const given = await readGiven(givenOptions("get", flags));
    refuseUnreadable(given);
    const { objects, problems } = given;
    if (problems.length > 0)
      return summarizeProblems(
        "get",
        problems,
        problems.length + objects.length,
        objects.map(({ kind }) => kind.name),
      );
    if (objects.length === 0) return NOTHING;
    return withStore(flags, process.env, (store) => getNamed(store, objects, { ...options, isExport: false }));
  }
  const kind = kindOf(kindWord);
  if (names.includes("")) throw new UsageError("resource name may not be empty");
  const scope = scopeOf(kind, flags.namespace, isAll, names.length > 0);
  if (output.type === "table") headingsOf(kind, output, false);
  return withStore(flags, process.env, (store) =>
    names.length === 0
      ? getAll(store, kind, scope, options)
      : getNamed(
          store,
          names.map((name) => ({ kind, namespace: scope, name })),
          options,
        ),
  );
}

export async function write(verb: FileVerb, flags: WriteFlags): Promise<Result> {
  if (flags.filename === undefined) throw new UsageError("-f must be given: a file, a folder, or - for standard input");
  const read = await readTasks(verb, givenOptions(verb, flags));
  if (!("tasks" in read)) return read;
  if (read.tasks.length === 0) return NOTHING;
  const result = await withStore(flags, process.env, (store) =>
    writeTasks(verb, read.tasks, store, writeOptions(verb, flags)),
  );
  return { ...result, error: `${read.notes.map((text) => `warning: ${text}\n`).join("")}${result.error}` };
}

export async function deleteObjects(
  kindWord: string | undefined,
  names: readonly string[],
  flags: WriteFlags,
): Promise<Result> {
  if (flags.filename !== undefined) {
    if (kindWord !== undefined)
      throw new UsageError("a kind and -f exclude each other: objects are named in one place");
    return write("delete", flags);
  }
  const kind = kindOf(kindWord);
  if (names.length === 0 || names.includes("")) throw new UsageError("resource name may not be empty");
  const namespace = scopeOf(kind, flags.namespace, false, true);
  const tasks = [...new Set(names)].map((name) => ({ kind, namespace, name, object: {}, where: undefined }));
  return withStore(flags, process.env, (store) => writeTasks("delete", tasks, store, writeOptions("delete", flags)));
}

export async function patch(kindWord: string, name: string, flags: ChangeFlags): Promise<Result> {
  const kind = kindOf(kindWord);
  const named = { kind, namespace: scopeOf(kind, flags.namespace, false, true), name };
  const change = parsePatch(flags.patch ?? "");
  return withStore(flags, process.env, (store) => runPatch(store, named, change, flags.type ?? "strategic", sleep));
}

export async function change(
  kindWord: string,
  name: string,
  labels: readonly string[],
  flags: ChangeFlags,
): Promise<Result> {
  const kind = kindOf(kindWord);
  const named = { kind, namespace: scopeOf(kind, flags.namespace, false, true), name };
  const { overwrite = false, remove = false } = flags;
  return withStore(flags, process.env, (store) =>
    runLabel(store, named, { kindWord, labels, overwrite, remove }, sleep),
  );
}

export async function validate(flags: WriteFlags): Promise<Result> {
  if (flags.filename === undefined) throw new UsageError("-f must be given: a file, a folder, or - for standard input");
  return runValidate(givenOptions("validate", flags), flags.output === "json" ? "json" : "text");
}

/** Throws UsageError. */
function kindOf(word: string | undefined): ServedKind {
  if (word === undefined) throw new UsageError("a kind or -f must be given");
  const kind = kindOfWord(word);
  if (kind === undefined) throw new UsageError(`resource type '${word}' is not supported: it ${unknownKind(word)}`);
  return kind;
}

function givenOptions(verb: Verb, flags: FileFlags): GivenOptions {
  return {
    files: flags.filename ?? [],
    recursive: flags.recursive === true,
    skipEmpty: flags.skipEmpty === true,
    namespace: flags.namespace,
    stdin: () => Bun.stdin.bytes(),
    reader: `calicoctl ${verb} -f -`,
  };
}

function writeOptions(verb: FileVerb, flags: WriteFlags): Parameters<typeof writeTasks>[3] {
  return {
    ...batchOptions(verb),
    skipExists: flags.skipExists === true,
    skipNotExists: flags.skipNotExists === true,
  };
}

function batchOptions(verb: Verb): BatchOptions {
  return {
    sleep,
    now: () => performance.now(),
    tell: (done, all) => {
      if (process.stderr.isTTY) process.stderr.write(`${PAST[verb]} ${done} of ${all}\n`);
    },
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms));
}
