/** Documents: what the server says about itself: version, discovery, OpenAPI. */
import { createHash } from "node:crypto";
import type { JsonObject } from "../../../src/model/schema/json.ts";
import { methodNotAllowed, noSuchPath } from "../errors.ts";
import {
  aggregatedDocument,
  coreVersionsDocument,
  groupDocument,
  groupListDocument,
  groupsOf,
  resourceListDocument,
} from "../discovery.ts";
import { openApiV2Document } from "../openapi/v2.ts";
import { encodeOpenApiV2 } from "../openapi/v2-protobuf.ts";
import { openApiV3Document, openApiV3Paths } from "../openapi/v3.ts";
import type { ServedKinds } from "../registry.ts";
import { apiVersionOf } from "../resource-type.ts";
import { type MediaType, parseAccept } from "./negotiate.ts";
import { goLine } from "./respond.ts";

/** The Kubernetes version that this API follows. */
const VERSION = {
  major: "1",
  minor: "34",
  gitVersion: "v1.34.4+calico",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "1970-01-01T00:00:00Z",
  goVersion: "none",
  compiler: "none",
  platform: "linux/amd64",
};

/** What clients ask for, and what the answer is called: Go's parser of media types refuses the `@`. */
const PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const PROTOBUF_V2_NAME = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

const PRIVATE = "no-cache, private";
const JSON_HEADERS = { "Content-Type": "application/json", "Cache-Control": PRIVATE };

/** undefined when the path names no document. */
export function serveDocument(registry: ServedKinds, request: Request, path: string): Response | undefined {
  const at = path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
  if (!at.startsWith("/api") && !at.startsWith("/openapi") && at !== "/version" && at !== "/") return undefined;
  if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed();
  const accept = parseAccept(request.headers.get("accept"));
  if (at === "/version") return new Response(JSON.stringify(VERSION, undefined, 2), { headers: JSON_HEADERS });
  if (at === "/")
    return json({
      paths: [
        "/api",
        "/api/v1",
        "/apis",
        ...groupsOf(registry).map((group) => `/apis/${group}`),
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
      ],
    });
  if (at === "/api" || at === "/apis") return discoveryRoot(registry, request, at === "/api", accept);
  if (at === "/openapi/v2") return openApiV2(registry, request, accept);
  if (at === "/openapi/v3")
    return new Response(
      kept(registry, "v3", () => JSON.stringify(openApiV3Paths(registry))),
      { headers: { "Content-Type": "text/plain; charset=utf-8", "Cache-Control": PRIVATE } },
    );
  const [root, ...parts] = at.slice(1).split("/");
  if (root === "openapi") return openApiV3(registry, request, parts);
  if (root === "api" && parts.length === 1) {
    const document = resourceListDocument(registry, "", parts[0] ?? "");
    if (document === undefined) throw noSuchPath();
    return json(document);
  }
  return documentOrNothing(
    parts.length === 1
      ? groupDocument(registry, parts[0] ?? "")
      : parts.length === 2
        ? resourceListDocument(registry, parts[0] ?? "", parts[1] ?? "")
        : undefined,
  );
}

function json(document: JsonObject): Response {
  return new Response(goLine(JSON.stringify(document)), { headers: JSON_HEADERS });
}

function documentOrNothing(document: JsonObject | undefined): Response | undefined {
  return document === undefined ? undefined : json(document);
}

/** With an ETag, so that clients need not fetch twice what they have. */
function tagged(request: Request, body: Bytes, contentType: string, cacheControl = PRIVATE): Response {
  const etag = `"${createHash("sha512").update(body).digest("hex").slice(0, 64).toUpperCase()}"`;
  const headers = { "Content-Type": contentType, ETag: etag, Vary: "Accept", "Cache-Control": cacheControl };
  if (request.headers.get("if-none-match") === etag) return new Response(null, { status: 304, headers });
  return new Response(body, { headers });
}

function discoveryRoot(registry: ServedKinds, request: Request, core: boolean, accept: readonly MediaType[]): Response {
  for (const { type, parameters } of accept) {
    if (type !== "application/json" && type !== "*/*" && type !== "application/*") continue;
    const as = parameters.get("as");
    if (as === undefined) break;
    const version = parameters.get("v") ?? "";
    if (
      as !== "APIGroupDiscoveryList" ||
      parameters.get("g") !== "apidiscovery.k8s.io" ||
      (version !== "v2" && version !== "v2beta1")
    )
      continue;
    return tagged(
      request,
      goLine(JSON.stringify(aggregatedDocument(registry, core, version))),
      `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
      "public",
    );
  }
  return json(core ? coreVersionsDocument() : groupListDocument(registry));
}

function openApiV2(registry: ServedKinds, request: Request, accept: readonly MediaType[]): Response {
  for (const { type } of accept) {
    if (type === PROTOBUF_V2 || type === PROTOBUF_V2_NAME)
      return tagged(
        request,
        kept(registry, "v2 protobuf", () => encodeOpenApiV2(openApiV2Document(registry))),
        PROTOBUF_V2_NAME,
      );
    if (type === "application/json" || type === "*/*" || type === "application/*") break;
  }
  return tagged(
    request,
    kept(registry, "v2", () => JSON.stringify(openApiV2Document(registry))),
    "application/json",
  );
}

/** Documents are made once for each state of the served kinds. */
const documents = new WeakMap<ServedKinds, { edition: number; readonly bodies: Map<string, Bytes> }>();
type Bytes = string | Uint8Array<ArrayBuffer>;

function kept(registry: ServedKinds, name: string, make: () => Bytes): Bytes {
  let cache = documents.get(registry);
  if (cache === undefined || cache.edition !== registry.edition)
    documents.set(registry, (cache = { edition: registry.edition, bodies: new Map() }));
  let body = cache.bodies.get(name);
  if (body === undefined) cache.bodies.set(name, (body = make()));
  return body;
}

function openApiV3(registry: ServedKinds, request: Request, parts: readonly string[]): Response | undefined {
  const [version, root, ...rest] = parts;
  if (version !== "v3") return undefined;
  const [group, name] = root === "api" ? ["", rest[0]] : [rest[0] ?? "", rest[1]];
  if (name === undefined || resourceListDocument(registry, group, name) === undefined)
    return new Response(null, { status: 404, headers: { "Cache-Control": PRIVATE } });
  return tagged(
    request,
    kept(registry, `v3 ${group}/${name}`, () =>
      JSON.stringify(openApiV3Document(registry, group, name, apiVersionOf(group, name))),
    ),
    "application/json",
  );
}
