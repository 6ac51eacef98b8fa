/** Discovery: which kinds are served, in the old form (one document a group version) and the aggregated one. */
import type { JsonObject, JsonValue } from "../../src/model/schema/json.ts";
import { compareVersions } from "./crd/custom-type.ts";
import type { Registry } from "./objects/context.ts";
import { apiVersionOf, type ResourceType, type ServedVersion } from "./resource-type.ts";

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const VERBS_OF_SINGLE = VERBS.filter((verb) => verb !== "deletecollection");
const STATUS_VERBS = ["get", "patch", "update"];

interface Subresource {
  readonly name: string;
  readonly kind: string;
  readonly verbs: readonly string[];
}

function subresourcesOf(type: ResourceType, version: ServedVersion): Subresource[] {
  const further = Object.entries(type.subresources).map(([name, entry]) => ({ name, ...entry }));
  return version.hasStatus ? [...further, { name: "status", kind: type.kind, verbs: STATUS_VERBS }] : further;
}

/** Versions of a group with the kinds of each, the preferred version first. */
function versionsOf(registry: Registry, group: string): Map<string, { type: ResourceType; version: ServedVersion }[]> {
  const found = new Map<string, { type: ResourceType; version: ServedVersion }[]>();
  for (const type of registry.types()) {
    if (type.group !== group) continue;
    for (const version of type.versions) {
      const kinds = found.get(version.name) ?? [];
      kinds.push({ type, version });
      found.set(version.name, kinds);
    }
  }
  return new Map([...found].sort(([a], [b]) => compareVersions(a, b)));
}

/** Named groups in use, built-in ones first. */
export function groupsOf(registry: Registry): string[] {
  return [...new Set(registry.types().map((type) => type.group))].filter((group) => group !== "");
}

/** `GET /apis/GROUP`; undefined when nothing of the group is served. */
export function groupDocument(registry: Registry, group: string): JsonObject | undefined {
  const versions = [...versionsOf(registry, group).keys()].map((version) => ({
    groupVersion: apiVersionOf(group, version),
    version,
  }));
  const preferred = versions[0];
  if (preferred === undefined) return undefined;
  return { kind: "APIGroup", apiVersion: "v1", name: group, versions, preferredVersion: preferred };
}

/** `GET /apis`. */
export function groupListDocument(registry: Registry): JsonObject {
  const groups = groupsOf(registry).flatMap((group) => {
    const document = groupDocument(registry, group);
    if (document === undefined) return [];
    const { name, versions, preferredVersion } = document;
    return [{ name: name ?? group, versions: versions ?? [], preferredVersion: preferredVersion ?? {} }];
  });
  return { kind: "APIGroupList", apiVersion: "v1", groups };
}

/** `GET /api`. */
export function coreVersionsDocument(): JsonObject {
  return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
}

/** `GET /api/v1` and `GET /apis/GROUP/VERSION`; undefined when it is not served. */
export function resourceListDocument(registry: Registry, group: string, version: string): JsonObject | undefined {
  const kinds = versionsOf(registry, group).get(version);
  if (kinds === undefined) return undefined;
  const resources = kinds.flatMap(({ type, version: served }): JsonValue[] => [
    {
      ...namesOf(type),
      name: type.plural,
      singularName: type.singular,
      namespaced: type.namespaced,
      kind: type.kind,
      verbs: type.lastsInCollections === true ? VERBS_OF_SINGLE : VERBS,
    },
    ...subresourcesOf(type, served).map((entry) => ({
      name: `${type.plural}/${entry.name}`,
      singularName: "",
      namespaced: type.namespaced,
      kind: entry.kind,
      verbs: [...entry.verbs],
    })),
  ]);
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion: apiVersionOf(group, version), resources };
}

function namesOf(type: ResourceType): JsonObject {
  return {
    ...(type.shortNames.length === 0 ? {} : { shortNames: [...type.shortNames] }),
    ...(type.categories.length === 0 ? {} : { categories: [...type.categories] }),
  };
}

/** The aggregated document of the core group (`/api`) or of all others (`/apis`); version `v2` or `v2beta1`. */
export function aggregatedDocument(registry: Registry, core: boolean, version: string): JsonObject {
  const groups = core ? [""] : groupsOf(registry);
  const items = groups.map((group) => ({
    metadata: { name: group, creationTimestamp: null },
    versions: [...versionsOf(registry, group)].map(([name, kinds]) => ({
      version: name,
      resources: kinds.map(aggregatedResource),
      freshness: "Current",
    })),
  }));
  return { kind: "APIGroupDiscoveryList", apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items };
}

function aggregatedResource({
  type,
  version,
}: {
  readonly type: ResourceType;
  readonly version: ServedVersion;
}): JsonObject {
  // Kubernetes leaves these empty for the kinds that it is built with.
  const responseKind = (kind: string): JsonObject =>
    type.builtIn ? { group: "", version: "", kind } : { group: type.group, version: version.name, kind };
  const subresources = subresourcesOf(type, version).map((entry) => ({
    subresource: entry.name,
    responseKind: responseKind(entry.kind),
    verbs: [...entry.verbs],
  }));
  return {
    resource: type.plural,
    responseKind: responseKind(type.kind),
    scope: type.namespaced ? "Namespaced" : "Cluster",
    singularResource: type.singular,
    verbs: type.lastsInCollections === true ? VERBS_OF_SINGLE : VERBS,
    ...namesOf(type),
    ...(subresources.length === 0 ? {} : { subresources }),
  };
}
