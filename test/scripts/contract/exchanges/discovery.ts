/** discovery: what the server says about itself. Of the documents only what concerns the kinds that both servers have. */
import type { Json } from "../normalise.ts";
import { at, type Recorder, textAt } from "../recorder.ts";
import type { Places } from "./places.ts";

const KINDS: readonly (readonly [string, readonly string[]])[] = [
  ["v1", ["namespaces", "nodes", "pods", "services", "serviceaccounts", "configmaps", "secrets", "events"]],
  ["discovery.k8s.io/v1", ["endpointslices"]],
  ["networking.k8s.io/v1", ["networkpolicies"]],
  ["apiextensions.k8s.io/v1", ["customresourcedefinitions"]],
];

const AGGREGATED =
  "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

export async function discovery(recorder: Recorder, places: Places): Promise<void> {
  for (const path of ["/healthz", "/livez", "/readyz", "/readyz/ping"])
    await recorder.request(`GET ${path}`, "GET", path);
  await recorder.request("version", "GET", "/version", {
    select: (body) => `${textAt(body, "major")} ${textAt(body, "platform")}`,
  });
  await recorder.request("core versions", "GET", "/api", { select: (body) => (at(body, "versions") as Json) ?? null });
  for (const [version, plurals] of KINDS) {
    const path = version === "v1" ? "/api/v1" : `/apis/${version}`;
    await recorder.request(`resources of ${version}`, "GET", path, {
      select: (body) => ours(at(body, "resources"), plurals, "name"),
    });
    if (version !== "v1") await recorder.request(`group of ${version}`, "GET", path.slice(0, path.lastIndexOf("/")));
    await recorder.request(`aggregated resources of ${version}`, "GET", version === "v1" ? "/api" : "/apis", {
      accept: AGGREGATED,
      select: (body) => aggregated(body, version, plurals),
    });
    await recorder.request(
      `OpenAPI v3 of ${version}`,
      "GET",
      version === "v1" ? "/openapi/v3/api/v1" : `/openapi/v3/apis/${version}`,
      { select: (body) => shapes(at(body, "components", "schemas")) },
    );
  }
  await recorder.request("group that does not exist", "GET", "/apis/nope.example.com");
  await recorder.request("version that does not exist", "GET", "/api/v9");
  await recorder.request("OpenAPI of a group that does not exist", "GET", "/openapi/v3/apis/nope.example.com/v1");
  await recorder.request("OpenAPI v3 index", "GET", "/openapi/v3", {
    select: (body) =>
      KINDS.map(([version]) =>
        textAt(body, "paths", version === "v1" ? "api/v1" : `apis/${version}`, "serverRelativeURL").replace(
          /hash=[0-9A-F]+/,
          "hash=HASH",
        ),
      ),
  });
  await recorder.request("OpenAPI v2", "GET", "/openapi/v2", { select: (body) => shapes(at(body, "definitions")) });
  await recorder.request("OpenAPI v2 in protobuf", "GET", "/openapi/v2", {
    accept: "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    select: () => "…",
  });
  const first = await recorder.send("GET", "/apis", { accept: AGGREGATED });
  recorder.fact("discovery has a tag", "ETag of /apis", /^"[0-9A-F]{64,128}"$/.test(first.headers.get("etag") ?? ""));
  await recorder.request("namespace of the exchanges", "GET", places.all("namespaces") + `/${places.namespace}`);
}

/** The entries of these resources and their subresources that are not another kind's business. */
function ours(resources: unknown, plurals: readonly string[], field: string): Json {
  const list = Array.isArray(resources) ? (resources as Json[]) : [];
  return list
    .filter((entry) =>
      plurals.some((plural) => textAt(entry, field) === plural || textAt(entry, field).startsWith(`${plural}/`)),
    )
    .sort((a, b) => (textAt(a, field) < textAt(b, field) ? -1 : 1))
    .map(withoutHash);
}

function withoutHash(entry: Json): Json {
  return JSON.parse(
    JSON.stringify(entry, (name, value: unknown) =>
      name === "storageVersionHash"
        ? undefined
        : Array.isArray(value) && name === "subresources"
          ? value.toSorted((a, b) => (textAt(a, "subresource") < textAt(b, "subresource") ? -1 : 1))
          : value,
    ),
  ) as Json;
}

function aggregated(body: Json, version: string, plurals: readonly string[]): Json {
  const group = version === "v1" ? "" : version.slice(0, version.indexOf("/"));
  const items = at(body, "items");
  const entry = Array.isArray(items)
    ? (items as Json[]).find((item) => String(at(item, "metadata", "name") ?? "") === group)
    : undefined;
  const versions = at(entry, "versions");
  const served = Array.isArray(versions) ? (versions as Json[])[0] : undefined;
  return {
    freshness: textAt(served, "freshness"),
    version: textAt(served, "version"),
    resources: ours(at(served, "resources"), plurals, "resource"),
  };
}

/** Field names and types of the definitions that kubectl asks after. */
const SHAPES = [
  "api.core.v1.Pod",
  "api.core.v1.PodSpec",
  "api.core.v1.PodStatus",
  "api.core.v1.Container",
  "api.core.v1.ContainerPort",
  "api.core.v1.Volume",
  "api.core.v1.Service",
  "api.core.v1.ServiceSpec",
  "api.core.v1.ServicePort",
  "api.core.v1.Node",
  "api.core.v1.NodeSpec",
  "api.core.v1.NodeStatus",
  "api.core.v1.Namespace",
  "api.core.v1.ConfigMap",
  "api.core.v1.Secret",
  "api.core.v1.ServiceAccount",
  "api.core.v1.Event",
  "api.discovery.v1.EndpointSlice",
  "api.discovery.v1.Endpoint",
  "api.networking.v1.NetworkPolicySpec",
  "api.networking.v1.NetworkPolicyPort",
  "api.networking.v1.NetworkPolicyPeer",
  "api.networking.v1.IPBlock",
  "apimachinery.pkg.apis.meta.v1.ObjectMeta",
  "apimachinery.pkg.apis.meta.v1.LabelSelector",
];

function shapes(definitions: unknown): Json {
  const shown = SHAPES.flatMap((name): [string, Json][] => {
    const schema = at(definitions, `io.k8s.${name}`);
    const properties = at(schema, "properties");
    if (typeof properties !== "object" || properties === null) return [];
    const fields = Object.entries(properties)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([field, rule]) => `${field}: ${typeOf(rule)}`);
    return [
      [
        name,
        [
          ...fields,
          `required: ${sorted(at(schema, "required"))}`,
          `kinds: ${JSON.stringify(at(schema, "x-kubernetes-group-version-kind") ?? null)}`,
        ],
      ],
    ];
  });
  return Object.fromEntries(shown);
}

function sorted(names: unknown): string {
  return Array.isArray(names) ? (names as string[]).toSorted().join(",") : "";
}

function typeOf(rule: unknown): string {
  const reference = at(rule, "$ref") ?? at(rule, "allOf", 0, "$ref");
  const own = typeof reference === "string" ? reference.slice(reference.lastIndexOf("/") + 1) : textAt(rule, "type");
  const merge = at(rule, "x-kubernetes-patch-merge-key");
  return `${own === "array" ? `[${typeOf(at(rule, "items"))}]` : own}${typeof merge === "string" ? ` by ${merge}` : ""}`;
}
