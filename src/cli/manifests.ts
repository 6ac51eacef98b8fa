/**
 * Manifests: the objects of a cluster from YAML or JSON files, as `kubectl get -o yaml` prints them.
 *
 * Refused, naming file and document: text that cannot be read, the same key twice in a mapping, an object without kind or name, a Pod that
 * cannot be understood, and the same object twice. Kinds that have no part in policy are passed over.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CORE_SCHEMA, loadAll, YAMLException } from "js-yaml";
import { formatParseError } from "../lib/result.ts";
import { formatKey } from "../model/key.ts";
import { type Kind, KINDS } from "../model/kind.ts";
import { podOf } from "../model/kubernetes/pod.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { isJsonObject } from "../model/schema/json.ts";
import type { ClusterResources } from "../semantics/cluster.ts";

/** What the operator gave cannot be used; the message is for the operator. */
export class InputError extends Error {
  override readonly name = "InputError";
}

type Objects = { [K in "Pod" | "Namespace" | "ServiceAccount" | "Node" | "KubernetesNetworkPolicy"]: Resource<K>[] };

/** Reads one file, or every .yaml, .yml and .json file below a directory. Rejects with InputError. */
export async function readManifests(path: string): Promise<ClusterResources> {
  const objects: Objects = { Pod: [], Namespace: [], ServiceAccount: [], Node: [], KubernetesNetworkPolicy: [] };
  const seen = new Map<string, string>();
  for (const file of await filesAt(path)) {
    const documents = readDocuments(await attempt(() => readFile(file, "utf8"), file), file);
    documents.forEach((document, index) => addObject(document, `${file}, document ${index + 1}`, objects, seen));
  }
  return { pods: objects.Pod, namespaces: objects.Namespace, serviceAccounts: objects.ServiceAccount, nodes: objects.Node, networkPolicies: objects.KubernetesNetworkPolicy };
}

async function filesAt(path: string): Promise<string[]> {
  if (!(await attempt(() => stat(path), path)).isDirectory()) return [path];
  const names = await attempt(() => readdir(path, { recursive: true }), path);
  return names.filter((name) => /\.(ya?ml|json)$/.test(name)).sort().map((name) => join(path, name));
}

async function attempt<T>(run: () => Promise<T>, path: string): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw new InputError(`Cannot read ${JSON.stringify(path)}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function readDocuments(text: string, file: string): unknown[] {
  try {
    return loadAll(text, { schema: CORE_SCHEMA });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    const before = text.split("\n").slice(0, (error.mark?.line ?? 0) + 1);
    const separators = before.filter((line, index) => index > 0 && /^---(\s|$)/.test(line)).length;
    throw new InputError(`Cannot read ${file}, document ${separators + 1}, line ${before.length}: ${error.reason}`);
  }
}

function addObject(value: unknown, where: string, objects: Objects, seen: Map<string, string>): void {
  if (value === null || value === undefined) return;
  if (!isJsonObject(value)) throw new InputError(`Cannot use ${where}: must be a mapping`);
  const { apiVersion, kind } = value;
  if (typeof apiVersion !== "string" || typeof kind !== "string") throw new InputError(`Cannot use ${where}: apiVersion and kind must be given`);
  if (kind.endsWith("List") && Array.isArray(value["items"])) {
    value["items"].forEach((item, index) => addObject(item, `${where}, item ${index + 1}`, objects, seen));
    return;
  }
  const known = (Object.keys(objects) as (keyof Objects)[]).find((candidate) => KINDS[candidate].apiVersion === apiVersion && KINDS[candidate].apiKind === kind);
  if (known === undefined) return;
  const metadata = value["metadata"];
  if (!isJsonObject(metadata) || typeof metadata["name"] !== "string") throw new InputError(`Cannot use ${where}: metadata.name of the ${kind} must be given`);
  store(known, value as unknown as Resource, where, objects, seen);
}

function store(kind: keyof Objects, resource: Resource, where: string, objects: Objects, seen: Map<string, string>): void {
  const key = keyOf(kind as Kind, resource);
  const named = `${resource.kind} ${key.namespace === undefined ? "" : `${key.namespace}/`}${key.name}`;
  const before = seen.get(formatKey(key));
  if (before !== undefined) throw new InputError(`Cannot use ${where}: ${named} is also in ${before}`);
  seen.set(formatKey(key), where);
  const namespaced = key.namespace === undefined ? resource : { ...resource, metadata: { ...resource.metadata, namespace: key.namespace } };
  if (kind === "Pod") {
    const pod = podOf(namespaced as Resource<"Pod">);
    if (!pod.ok) throw new InputError(`Cannot use ${where}: ${named}: ${formatParseError(pod.error)}`);
  }
  (objects[kind] as Resource[]).push(namespaced);
}
