/**
 * Manifests: the objects of a cluster from files, as kubectl reads them.
 *
 * Refused, with file and line: malformed text, an object without kind or name, a malformed Pod or template, the same object twice, and Helm
 * templates. Kinds that do not affect policy are skipped; those that may are reported (`foreign.ts`).
 */
import { KINDS } from "../model/kind.ts";
import type { Result } from "../lib/result.ts";
import type { Resource } from "../model/resource.ts";
import { isJsonObject, type JsonObject, objectAt, stringAt } from "../model/schema/json.ts";
import { type Endpoints, endpointSliceOf, endpointsOf, type Service, serviceOf } from "../verify/services.ts";
import { NAMESPACE_NAME_LABEL } from "../verify/placeholders.ts";
import { itemsOf, readDocuments } from "./documents.ts";
import { foreignEffect, type ForeignObject, foreignWarnings } from "./foreign.ts";
import { InputError, type Inventory, type Warning } from "./inventory.ts";
import { endpointsInManifests, withoutMirrored } from "./manifest-endpoints.ts";
import {
  isNamespaced,
  type PolicyKind,
  policyKindOf,
  policyObject,
  PolicyObjects,
  sliceResource,
} from "./policy-objects.ts";
import { conform, NAMED, NODE, POD } from "./shapes.ts";
import { readSources, type Source } from "./sources.ts";
import { hasTemplate, laterLabelWarnings, podsOfTemplates, type Template, withStandIns } from "./templates.ts";
import { SyntaxFault } from "./yaml.ts";

export interface ManifestOptions {
  /** Files and folders; `-` is standard input. */
  readonly paths: readonly string[];
  /** Folders below folders too. */
  readonly recursive: boolean;
  /** The namespace of objects that name none, as with kubectl. */
  readonly namespace: string;
  readonly stdin: () => Promise<Uint8Array>;
}

const READ = ["Pod", "Namespace", "ServiceAccount", "Node", "KubernetesNetworkPolicy"] as const;
type ReadKind = (typeof READ)[number];

/** Kinds of the cluster's scope among those of which `why` needs the namespace. */
const CLUSTER_SCOPE = /^(Staged)?Global|^(Cluster|CiliumClusterwide|Admin|Baseline|HostEndpoint|NetNamespace)/;

/** The content of the files so far. */
interface Collection {
  readonly objects: { [K in ReadKind]: Resource<K>[] };
  readonly templates: Template[];
  readonly services: Service[];
  readonly slices: JsonObject[];
  readonly policies: PolicyObjects;
  readonly endpoints: Endpoints[];
  readonly foreign: ForeignObject[];
  /** Where each object is. */
  readonly seen: Map<string, string>;
  readonly namespaces: Set<string>;
}

/** Rejects with InputError. */
export async function readManifests(options: ManifestOptions): Promise<Inventory> {
  const { sources, warnings } = await readSources(options.paths, options.recursive, options.stdin);
  const collection: Collection = {
    objects: { Pod: [], Namespace: [], ServiceAccount: [], Node: [], KubernetesNetworkPolicy: [] },
    templates: [],
    services: [],
    slices: [],
    policies: new PolicyObjects(),
    endpoints: [],
    foreign: [],
    seen: new Map(),
    namespaces: new Set(),
  };
  const notes: Warning[] = [...warnings];
  for (const source of sources) {
    const without = readSource(source, collection, options.namespace);
    if (without > 0)
      notes.push({
        text: `${source.name} is not read: it has no apiVersion and kind, so it is no manifest`,
        doubt: "none",
      });
  }
  return inventoryOf(collection, notes);
}

/** Returns the number of documents that are not objects. */
function readSource(source: Source, collection: Collection, namespace: string): number {
  let without = 0;
  for (const { value, line } of documentsOf(source)) {
    for (const item of itemsOf(value)) {
      const where = `${source.name}:${line}${item.path === "" ? "" : ` (${item.path})`}`;
      if (!isJsonObject(item.value)) throw new InputError(`Cannot use ${where}: must be a mapping`);
      if (source.fromFolder && item.value["apiVersion"] === undefined && item.value["kind"] === undefined) without++;
      else addObject(item.value, where, collection, namespace);
    }
  }
  return without;
}

function documentsOf(source: Source): ReturnType<typeof readDocuments> {
  try {
    return readDocuments(source.bytes);
  } catch (error) {
    if (!(error instanceof SyntaxFault)) throw error;
    const isTemplate = new TextDecoder().decode(source.bytes).includes("{{");
    const hint = isTemplate
      ? '; it has {{ … }}, so it may belong to a Helm chart: use "helm template NAME CHART | calicoctl why -f - …"'
      : "";
    throw new InputError(`Cannot read ${source.name}:${error.line}: ${error.message}${hint}`);
  }
}

function addObject(object: JsonObject, where: string, collection: Collection, defaultNamespace: string): void {
  const { apiVersion, kind } = object;
  if (typeof apiVersion !== "string" || typeof kind !== "string")
    throw new InputError(`Cannot use ${where}: apiVersion and kind must be given`);
  if (apiVersion.startsWith("kustomize.config.k8s.io/"))
    throw new InputError(
      `Cannot use ${where}: it is a kustomize source; use "kubectl kustomize FOLDER | calicoctl why -f - …"`,
    );
  const known = READ.find(
    (candidate) => KINDS[candidate].apiVersion === apiVersion && KINDS[candidate].apiKind === kind,
  );
  const policyKind = policyKindOf(apiVersion, kind);
  const counts =
    known !== undefined ||
    policyKind !== undefined ||
    isService(apiVersion, kind) ||
    hasTemplate(apiVersion, kind) ||
    foreignEffect(apiVersion, kind) !== undefined;
  if (!counts) return;
  const shaped: Result<JsonObject, string> =
    policyKind === undefined
      ? conform(object, known === "Pod" ? POD : known === "Node" ? NODE : NAMED)
      : (policyObject(policyKind, object) as unknown as Result<JsonObject, string>);
  if (!shaped.ok) throw new InputError(`Cannot use ${where}: ${kind}: ${shaped.error}`);
  const metadata = objectAt(shaped.value["metadata"]);
  const name = stringAt(metadata["name"]) || stringAt(metadata["generateName"]);
  if (name === "") throw new InputError(`Cannot use ${where}: metadata.name of the ${kind} must be given`);
  const given = stringAt(metadata["namespace"]);
  if (JSON.stringify([name, given, metadata["labels"]]).includes("{{"))
    throw new InputError(
      `Cannot use ${where}: it has {{ … }}, so it belongs to a Helm chart; use "helm template NAME CHART | calicoctl why -f - …"`,
    );
  const isOfCluster =
    policyKind !== undefined
      ? !isNamespaced(policyKind)
      : known === undefined
        ? foreignEffect(apiVersion, kind) !== undefined && given === "" && CLUSTER_SCOPE.test(kind)
        : !KINDS[known].namespaced;
  const namespace = isOfCluster ? undefined : given || defaultNamespace;
  noteSeen(
    `${policyKind === undefined ? `${apiVersion} ${kind}` : `Calico's ${policyKind}`} ${namespace ?? ""}/${name}`,
    `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`,
    where,
    collection.seen,
  );
  const placed = {
    ...shaped.value,
    metadata: { ...metadata, name, ...(namespace === undefined ? {} : { namespace }) },
  };
  if (namespace !== undefined) collection.namespaces.add(namespace);
  file(placed, { apiVersion, kind, namespace, name, where, known, policyKind }, collection);
}

interface Place extends ForeignObject {
  readonly where: string;
  readonly known: ReadKind | undefined;
  readonly policyKind: PolicyKind | undefined;
}

function file(
  object: JsonObject,
  { apiVersion, kind, namespace, name, where, known, policyKind }: Place,
  collection: Collection,
): void {
  if (policyKind !== undefined) collection.policies.add(policyKind, object as unknown as Resource);
  else if (known !== undefined) (collection.objects[known] as Resource[]).push(object as unknown as Resource);
  else if (hasTemplate(apiVersion, kind))
    collection.templates.push({ kind: kind.toLowerCase(), namespace: namespace ?? "default", name, object, where });
  else if (kind === "Service") collection.services.push(serviceOf(object));
  else if (kind === "EndpointSlice") collection.slices.push(object);
  else if (kind === "Endpoints") collection.endpoints.push(...endpointsOf(object));
  else collection.foreign.push({ apiVersion, kind, namespace, name });
}

function isService(apiVersion: string, kind: string): boolean {
  return (
    (apiVersion === "v1" && ["Service", "Endpoints"].includes(kind)) ||
    (apiVersion.startsWith("discovery.k8s.io/") && kind === "EndpointSlice")
  );
}

function noteSeen(id: string, named: string, where: string, seen: Map<string, string>): void {
  const before = seen.get(id);
  if (before !== undefined) throw new InputError(`Cannot use ${where}: ${named} is also in ${before}`);
  seen.set(id, where);
}

const NO_POLICY: Warning = {
  text: "the manifests hold no NetworkPolicy: as far as they say, everything is allowed",
  doubt: "none",
};

function inventoryOf(
  { objects, templates, services, slices: written, endpoints, policies: others, foreign, seen, namespaces }: Collection,
  notes: readonly Warning[],
): Inventory {
  const whereOf = (pod: Resource<"Pod">): string => {
    const template = templates.find(
      ({ kind, namespace, name }) => pod.metadata.name === `${kind}/${name}` && pod.metadata.namespace === namespace,
    );
    return `${template?.where ?? seen.get(`v1 Pod ${pod.metadata.namespace}/${pod.metadata.name}`)}: ${template === undefined ? "Pod" : "template of"} ${pod.metadata.namespace}/${pod.metadata.name}`;
  };
  const pods = withStandIns([...objects.Pod, ...podsOfTemplates(templates, objects.Pod)], whereOf);
  const spaces = new Set(objects.Namespace.map(({ metadata }) => metadata.name));
  const unknownNamespaces = [...namespaces].filter((name) => !spaces.has(name));
  const slices = written.map(endpointSliceOf);
  // kube-apiserver adds this to every Namespace.
  const named = (metadata: Resource<"Namespace">["metadata"]): Resource<"Namespace"> => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { ...metadata, labels: { ...metadata.labels, [NAMESPACE_NAME_LABEL]: metadata.name } },
  });
  const policies = objects.KubernetesNetworkPolicy;
  return {
    resources: {
      pods,
      namespaces: [
        ...objects.Namespace.map(({ metadata }) => named(metadata)),
        ...unknownNamespaces.map((name) => named({ name })),
      ],
      serviceAccounts: objects.ServiceAccount,
      nodes: objects.Node,
      networkPolicies: policies,
      ...others.resources,
      endpointSlices: [...written.map(sliceResource), ...endpointsInManifests(services, slices, pods)],
    },
    services,
    endpoints: slices.length > 0 ? withoutMirrored(slices, endpoints) : endpoints,
    objects: others,
    unknowns: {
      namespaces: unknownNamespaces,
      knownAccounts: new Set(objects.ServiceAccount.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)),
      knownServices: new Set(
        services.filter(({ selector }) => selector !== undefined).map(({ namespace, name }) => `${namespace}/${name}`),
      ),
    },
    warnings: [
      ...notes,
      ...foreignWarnings(foreign),
      ...laterLabelWarnings(templates, policies, others),
      ...(policies.length + foreign.length === 0 && !others.hasPolicies ? [NO_POLICY] : []),
    ],
  };
}
