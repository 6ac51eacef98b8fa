/** Resources: one request for a kind's objects, from verb and path to the answer. */

import type { JsonObject } from "../../../src/model/schema/json.ts";
import { ApiError, badRequest, forbidden, invalidOptions, methodNotAllowed, noSuchPath, notFound } from "../errors.ts";
import { type Context, ruleContext } from "../objects/context.ts";
import { awaitRevision, listObjects, parseRevision } from "../objects/read.ts";
import { parseDeleteOptions, removeObject } from "../objects/remove.ts";
import { parseSelectors } from "../objects/selectors.ts";
import { watchObjects } from "../objects/watch.ts";
import { createObject, type Place, replaceObject, type Written } from "../objects/write.ts";
import { type ApiObject } from "../object.ts";
import { apiVersionOf, resourceId, type ResourceType } from "../resource-type.ts";
import { type IncludedObject, metadataOnly, tableOf } from "../table/table.ts";
import { bindPod } from "./binding.ts";
import { type Body, mediaTypeOf, parseBody } from "./body.ts";
import { type Format, negotiate } from "./negotiate.ts";
import { patchResource } from "./patch.ts";
import { countOf, flagOf, parseWriteOptions, type ResourceRequest, type Target } from "./request.ts";
import { type Answer, respond } from "./respond.ts";

/** Subresources of Pods that a kubelet would serve. */
const KUBELET_SUBRESOURCES: ReadonlySet<string> = new Set(["exec", "attach", "portforward", "log", "proxy"]);

export async function serveResource(context: Context, request: ResourceRequest): Promise<Response> {
  const { target, query } = request;
  const found = context.registry.find(target.group, target.version, target.resource);
  if (found === undefined) throw unknownResource(context, target.group);
  const { type, version } = found;
  if (target.namespace !== undefined && !type.namespaced) throw unknownResource(context, target.group);
  if (target.namespace === undefined && type.namespaced && target.name !== undefined)
    throw unknownResource(context, target.group);
  checkSubresource(target, { ...found, namespace: target.namespace });
  const place: Place = { type, version, namespace: target.namespace };
  const format = negotiate(request.headers.get("accept"));
  const warnings = version.deprecation === undefined ? [] : [version.deprecation];
  if (request.method === "GET") {
    if (flagOf(query, "watch") && target.name === undefined) return startWatch(context, place, request, format);
    await awaitRevision(context.storage, parseRevision(query.get("resourceVersion")));
    const answer =
      target.name === undefined ? list(context, place, query, format) : get(context, place, target.name, query, format);
    return respond({ ...answer, warnings }, format.media);
  }
  const answer = write(context, place, request, format);
  return respond({ ...answer, warnings: [...warnings, ...(answer.warnings ?? [])] }, format.media);
}

/** Kubernetes answers for the groups that it is built with in a Status, for all others in plain text. */
function unknownResource(context: Context, group: string): Error {
  return context.registry.types().some((type) => type.builtIn && type.group === group)
    ? noSuchPath()
    : new UnknownResource();
}

/** Nothing is served at this path: answered in plain text, as Kubernetes does. */
export class UnknownResource extends Error {
  override readonly name = "UnknownResource";
}

function checkSubresource(target: Target, place: Place): void {
  const { subresource, resource, group } = target;
  if (subresource === undefined) return;
  if (group === "" && resource === "pods" && KUBELET_SUBRESOURCES.has(subresource)) {
    const message = `${subresource === "log" ? "logs" : subresource} of pods is not served by this API server: use \`calico-lab exec ${target.namespace ?? "NAMESPACE"}/${target.name ?? "POD"} -- COMMAND\` to run a command in a pod of the lab`;
    throw new ApiError(501, "NotImplemented", message, {
      kind: "pods",
      ...(target.name === undefined ? {} : { name: target.name }),
    });
  }
  const known =
    (subresource === "status" && place.version.hasStatus) || Object.hasOwn(place.type.subresources, subresource);
  if (!known) throw place.type.builtIn ? noSuchPath() : notFound(place.type, target.name ?? "");
}

function write(context: Context, place: Place, request: ResourceRequest, format: Format): Answer {
  const { target, method, query } = request;
  const subresource = target.subresource ?? "";
  if (method === "POST" && target.name === undefined)
    return written(
      place,
      createObject(context, place, bodyOf(request), parseWriteOptions(query, "CreateOptions")),
      201,
      format,
      context,
    );
  if (method === "POST" && subresource === "binding" && target.name !== undefined)
    return bindPod(context, place, target.name, bodyOf(request), parseWriteOptions(query, "CreateOptions"));
  if (method === "PUT" && target.name !== undefined && subresource !== "binding") {
    const mode = subresource === "finalize" ? "status" : subresource;
    return written(
      place,
      replaceObject(context, place, target.name, mode, bodyOf(request), parseWriteOptions(query, "UpdateOptions")),
      200,
      format,
      context,
    );
  }
  if (method === "PATCH" && target.name !== undefined && subresource !== "binding")
    return written(place, patchResource(context, place, target.name, subresource, request), 200, format, context);
  if (
    method === "DELETE" &&
    subresource === "" &&
    (target.name !== undefined || place.type.lastsInCollections !== true)
  )
    return target.name === undefined
      ? removeCollection(context, place, request, format)
      : remove(context, place, target.name, request, format);
  throw methodNotAllowed();
}

function bodyOf(request: ResourceRequest): Body {
  return parseBody(request.body, mediaTypeOf(request.headers.get("content-type")));
}

function visible(place: Place, object: ApiObject): ApiObject {
  return place.version.name === place.type.storageVersion
    ? object
    : { ...object, apiVersion: apiVersionOf(place.type.group, place.version.name) };
}

function shapeOne(
  context: Context,
  place: Place,
  object: ApiObject,
  format: Format,
  include: IncludedObject,
): Answer["body"] {
  const shown = visible(place, object);
  switch (format.as) {
    case "object":
      return shown;
    case "metadata":
      return metadataOnly(shown, format.version);
    case "table":
      return tableOf(
        place.version,
        [shown],
        shown.metadata.resourceVersion === undefined ? {} : { resourceVersion: shown.metadata.resourceVersion },
        { version: format.version, include, nowMs: context.nowMs() },
        true,
      );
  }
}

function written(place: Place, result: Written, status: number, format: Format, context: Context): Answer {
  return { status, body: shapeOne(context, place, result.object, format, "Metadata"), warnings: result.warnings };
}

function includedOf(query: URLSearchParams): IncludedObject {
  const include = query.get("includeObject") ?? "";
  if (include === "" || include === "Metadata") return "Metadata";
  if (include === "None" || include === "Object") return include;
  throw badRequest(
    `Unable to convert to Table as requested: includeObject: Invalid value: ${JSON.stringify(include)}: must be 'Metadata', 'Object', 'None', or empty`,
  );
}

function get(context: Context, place: Place, name: string, query: URLSearchParams, format: Format): Answer {
  const stored = context.storage.get(resourceId(place.type), place.namespace, name);
  if (stored === undefined) throw notFound(place.type, name);
  if (format.as === "object" && place.version.name === place.type.storageVersion)
    return { status: 200, body: { jsonText: stored.json } };
  return { status: 200, body: shapeOne(context, place, stored.object, format, includedOf(query)) };
}

function list(context: Context, place: Place, query: URLSearchParams, format: Format): Answer {
  const { type, version } = place;
  const page = listObjects(context, {
    resource: resourceId(type),
    namespace: place.namespace,
    matches: parseSelectors(query, type),
    query,
  });
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.next === undefined ? {} : { continue: page.next }),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  };
  if (format.as === "table") {
    const objects = page.items.map((stored) => visible(place, stored.object));
    return {
      status: 200,
      body: tableOf(
        version,
        objects,
        metadata,
        { version: format.version, include: includedOf(query), nowMs: context.nowMs() },
        true,
      ),
    };
  }
  if (format.as === "metadata") {
    const items = page.items.map((stored) => metadataOnly(stored.object, format.version));
    return {
      status: 200,
      body: { kind: "PartialObjectMetadataList", apiVersion: `meta.k8s.io/${format.version}`, metadata, items },
    };
  }
  const texts = page.items.map((stored) =>
    version.name === type.storageVersion ? itemText(place, stored.json) : JSON.stringify(visible(place, stored.object)),
  );
  const head = JSON.stringify({
    kind: type.listKind,
    apiVersion: apiVersionOf(type.group, version.name),
    metadata: type.builtIn ? metadata : { continue: "", ...metadata },
  });
  return { status: 200, body: { jsonText: `${head.slice(0, -1)},"items":[${texts.join(",")}]}` } };
}

/** Items of built-in kinds do not say again what they are: the list does. */
function itemText(place: Place, json: string): string {
  if (!place.type.builtIn) return json;
  const identity = `{"apiVersion":${JSON.stringify(apiVersionOf(place.type.group, place.version.name))},"kind":${JSON.stringify(place.type.kind)},`;
  return json.startsWith(identity) ? `{${json.slice(identity.length)}` : json;
}

function startWatch(context: Context, place: Place, request: ResourceRequest, format: Format): Response {
  const { query } = request;
  const { type, version } = place;
  const initial = query.get("sendInitialEvents");
  const match = query.get("resourceVersionMatch") ?? "";
  if ((initial === null) !== (match === "")) {
    const detail =
      initial === null
        ? "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        : "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    throw invalidOptions("ListOptions", [
      { field: "resourceVersionMatch", reason: "Forbidden", value: undefined, detail },
    ]);
  }
  const from = parseRevision(query.get("resourceVersion"));
  const bookmarks = flagOf(query, "allowWatchBookmarks");
  const wantsInitial = flagOf(query, "sendInitialEvents");
  const selected = parseSelectors(query, type);
  const seconds = countOf(query, "timeoutSeconds") ?? 0;
  const stream = watchObjects(context, {
    type,
    version,
    resource: resourceId(type),
    namespace: place.namespace,
    matches: selected,
    format,
    include: includedOf(query),
    from: wantsInitial ? undefined : initial === "false" && (from ?? 0) === 0 ? context.storage.revision : from,
    bookmarks,
    markInitialEnd: bookmarks && (wantsInitial || from === 0),
    timeoutMs: seconds > 0 ? seconds * 1000 : (1800 + Math.random() * 1800) * 1000,
  });
  return new Response(stream, {
    headers: {
      "Content-Type": "application/json",
      "Cache-Control": "no-cache, private",
      "Transfer-Encoding": "chunked",
    },
  });
}

function listed(place: Place, object: ApiObject): JsonObject {
  if (!place.type.builtIn) return visible(place, object);
  const { apiVersion: _, kind: __, ...rest } = object;
  return rest;
}

function deleteBody(request: ResourceRequest): Body["value"] {
  return request.body.length === 0 ? null : bodyOf(request).value;
}

function remove(context: Context, place: Place, name: string, request: ResourceRequest, format: Format): Answer {
  const { type } = place;
  const options = parseDeleteOptions(deleteBody(request), request.query);
  checkRetention(context, type, name);
  const { object, gone } = removeObject(context, type, place.namespace, name, options);
  if (!gone || type.answersDeleted) return { status: 200, body: shapeOne(context, place, object, format, "Metadata") };
  const details = {
    name,
    ...(type.group === "" ? {} : { group: type.group }),
    kind: type.plural,
    uid: object.metadata.uid ?? "",
  };
  return { status: 200, body: { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details } };
}

function checkRetention(context: Context, type: ResourceType, name: string): void {
  const { list } = ruleContext(context);
  for (const rule of context.retention) {
    const problem = rule({ resource: resourceId(type), name, list });
    if (problem !== undefined) throw forbidden(type, name, problem);
  }
}

function removeCollection(context: Context, place: Place, request: ResourceRequest, format: Format): Answer {
  const { type } = place;
  const options = parseDeleteOptions(deleteBody(request), request.query);
  const page = listObjects(context, {
    resource: resourceId(type),
    namespace: place.namespace,
    matches: parseSelectors(request.query, type),
    query: new URLSearchParams(),
  });
  const removed = page.items.map(({ object }) => {
    checkRetention(context, type, object.metadata.name);
    removeObject(context, type, object.metadata.namespace, object.metadata.name, options);
    return object;
  });
  const metadata = { resourceVersion: String(context.storage.revision) };
  if (format.as === "table")
    return {
      status: 200,
      body: tableOf(
        place.version,
        removed,
        metadata,
        { version: format.version, include: "Metadata", nowMs: context.nowMs() },
        true,
      ),
    };
  return {
    status: 200,
    body: {
      kind: type.listKind,
      apiVersion: apiVersionOf(type.group, place.version.name),
      metadata,
      items: removed.map((object) => listed(place, object)),
    },
  };
}
