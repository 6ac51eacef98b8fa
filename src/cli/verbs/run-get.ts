/** Run get: `calicoctl get`: objects by kind and name, or those that files name, as they are in the datastore. */
import type { Store } from "../../datastore/store.ts";
import { UsageError } from "../../lib/command-line.ts";
import type { JsonObject } from "../../model/schema/json.ts";
import { type BatchOptions, forAll } from "./batch.ts";
import { failureText, Refusal } from "./failures.ts";
import { objectText, type ServedKind } from "./kinds.ts";
import { headingsOf, type Output, printObjects, rowOf } from "./print.ts";
import { exported, readAll, readOne } from "./reads.ts";
import type { Result } from "./report.ts";
import { formatTable } from "./table.ts";

export interface Named {
  readonly kind: ServedKind;
  readonly namespace: string | undefined;
  readonly name: string;
}

export interface GetOptions {
  readonly output: Output;
  /** Whether tables say the namespace: the command line is about others than `default`. */
  readonly showNamespace: boolean;
  readonly isExport: boolean;
  readonly batch: BatchOptions;
}

/** Prints those that exist; the others are errors. */
export async function getNamed(store: Store, wanted: readonly Named[], options: GetOptions): Promise<Result> {
  const { output, showNamespace, isExport, batch } = options;
  const found = new Map<Named, JsonObject>();
  const outcomes = await forAll(
    wanted,
    async (named) => {
      const object = await readOne(store, named.kind, named.namespace, named.name);
      if (object === undefined)
        throw new Refusal(`resource does not exist: ${objectText(named.kind, named.namespace, named.name)}`);
      found.set(named, isExport ? exported(object) : object);
    },
    batch,
  );
  const errors = outcomes.flatMap((outcome, index) => {
    const named = wanted[index];
    if (outcome === undefined || named === undefined) return [];
    return [`calicoctl get: ${failureText(outcome, objectText(named.kind, named.namespace, named.name), "get")}\n`];
  });
  const present = wanted.flatMap((named) => {
    const object = found.get(named);
    return object === undefined ? [] : [{ kind: named.kind, object }];
  });
  const out =
    output.type === "table"
      ? // A table for each: they may be of different kinds.
        present
          .map(({ kind, object }) => {
            const headings = headingsOf(kind, output, showNamespace);
            return formatTable(headings, [rowOf(kind, headings, object)]);
          })
          .join("")
      : present.length === 0
        ? ""
        : printObjects(
            output,
            present.map(({ object }) => object),
          );
  return { code: errors.length === 0 ? 0 : 1, out, error: errors.join("") };
}

/** Everything of a kind in a namespace, or in all. */
export async function getAll(
  store: Store,
  kind: ServedKind,
  namespace: string | undefined,
  { output, showNamespace }: GetOptions,
): Promise<Result> {
  if (output.type === "table") {
    const headings = headingsOf(kind, output, showNamespace);
    const { items } = await readAll(store, kind, namespace, (object) => rowOf(kind, headings, object));
    return { code: 0, out: formatTable(headings, items), error: "" };
  }
  const { items, revision } = await readAll(store, kind, namespace, (object) => object);
  const list = {
    apiVersion: kind.apiVersion,
    kind: `${kind.apiKind}List`,
    metadata: { resourceVersion: revision },
    items: [...items],
  };
  return { code: 0, out: printObjects(output, [list]), error: "" };
}

/** Where to look. Throws UsageError. Upstream: handleNamespace in calicoctl/commands/common/resources.go. */
export function scopeOf(
  kind: ServedKind,
  namespace: string | undefined,
  isAllNamespaces: boolean,
  hasName: boolean,
): string | undefined {
  if (isAllNamespaces && namespace !== undefined)
    throw new UsageError("cannot use both --namespace and --all-namespaces flags at the same time");
  if (!kind.namespaced) {
    if (isAllNamespaces || namespace !== undefined) throw new UsageError(`${kind.name} is not namespaced`);
    return undefined;
  }
  if (isAllNamespaces && hasName) throw new UsageError("cannot use --all-namespaces for getting a single resource");
  return isAllNamespaces ? undefined : (namespace ?? "default");
}
