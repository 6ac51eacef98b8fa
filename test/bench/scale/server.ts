/**
 * server: the API of the scale bench over plain HTTP: lists in prepared pages, watches with bookmarks, and what a node writes.
 *
 * Below /bench/ it makes the changes that are measured, because only it knows when it told them, and counts what was written.
 * On `node:http`: `Bun.serve` holds back an answer's headers until the first byte of its body, and a watch must be known to have begun.
 * Usage: bun server.ts SIZE lean|fat kubernetes|calico ADDRESS PORT; it prints a line when it serves.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { isJsonObject, type JsonObject, objectAt } from "../../../src/model/schema/json.ts";
import { applyMergePatch } from "../../../lab/apiserver/patch/merge-patch.ts";
import { wallMs } from "./clock.ts";
import { type PodWeight, type PolicyKinds, SIZES, type Size } from "./scenario.ts";
import { type ApiStore, notFound, type Place, Refused } from "./store.ts";
import { KINDS, type MemberChange, World } from "./world.ts";

const CALICO_GROUP = "projectcalico.org";
/** As kube-apiserver: a watch that has nothing to say says how far it is. */
const BOOKMARK_MS = 60_000;

/** `/api/v1/…`, `/apis/GROUP/VERSION/…`; a last `/status` is the object itself. Two kinds are called `networkpolicies`: Calico's has its group. */
export function placeOf(pathname: string): Place | undefined {
  const [, group, path = ""] = /^\/(?:api\/v1|apis\/([^/]+)\/[^/]+)\/(.+)$/.exec(pathname) ?? [];
  const place = placeIn(path);
  return place?.plural === "networkpolicies" && group === CALICO_GROUP
    ? { ...place, plural: `networkpolicies.${CALICO_GROUP}` }
    : place;
}

/** The groups that are served, or the kinds of one; undefined for another path. */
function discovery(pathname: string): object | undefined {
  const versions = [...new Set(KINDS.map(([, apiVersion]) => apiVersion))].filter((each) => each.includes("/"));
  if (pathname === "/apis") {
    const groups = versions.map((groupVersion) => ({ name: groupVersion.split("/")[0], versions: [{ groupVersion }] }));
    return { kind: "APIGroupList", apiVersion: "v1", groups };
  }
  const groupVersion = versions.find((each) => pathname === `/apis/${each}`);
  if (groupVersion === undefined) return undefined;
  const resources = KINDS.filter(([, apiVersion]) => apiVersion === groupVersion).map(([collection, , kind]) => ({
    name: collection.split(".")[0],
    kind,
  }));
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion, resources };
}

function placeIn(path: string): Place | undefined {
  const parts = path
    .split("/")
    .map(decodeURIComponent)
    .filter((part) => part !== "");
  if (parts.at(-1) === "status" && parts.length > 2) parts.pop();
  if (parts[0] === "namespaces" && parts.length > 2)
    return { plural: parts[2] ?? "", namespace: parts[1], name: parts[3] };
  return parts[0] === undefined ? undefined : { plural: parts[0], namespace: undefined, name: parts[1] };
}

export class BenchServer {
  readonly #world: World;
  readonly #store: ApiStore;
  /** `PATCH pods`: how often, of the clients' writes. */
  readonly #writes = new Map<string, number>();

  constructor(size: Size, weight: PodWeight, kinds: PolicyKinds) {
    this.#world = new World(size, weight, kinds);
    this.#store = this.#world.store;
  }

  /** The port that it took. */
  listen(address: string, port: number): Promise<{ readonly port: number; readonly close: () => void }> {
    const server = createServer((request, response) => void this.#serve(request, response));
    server.requestTimeout = server.timeout = 0;
    server.keepAliveTimeout = 3_600_000;
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, address, () => {
        const bound = server.address();
        const close = (): void => {
          server.close();
          server.closeAllConnections();
        };
        resolve({ port: typeof bound === "object" && bound !== null ? bound.port : port, close });
      });
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#answer(request, response);
    } catch (error) {
      const code = error instanceof Refused ? error.code : 500;
      const reason = error instanceof Refused ? error.reason : "InternalError";
      const message = error instanceof Error ? error.message : String(error);
      send(
        response,
        code,
        JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", code, reason, message }),
      );
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://api");
    const method = request.method ?? "GET";
    if (url.pathname.startsWith("/bench/")) return send(response, 200, JSON.stringify(await this.#bench(url)));
    const discovered = discovery(url.pathname);
    if (discovered !== undefined) return send(response, 200, JSON.stringify(discovered));
    const place = placeOf(url.pathname);
    if (place === undefined) throw new Refused(404, "NotFound", `there is no path ${url.pathname}`);
    if (method === "GET") return this.#read(place, url.searchParams, request, response);
    const body = await bodyOf(request);
    const counted = `${method} ${place.plural}`;
    if (request.headers["x-bench"] === undefined) this.#writes.set(counted, (this.#writes.get(counted) ?? 0) + 1);
    const text = this.#write(method, place, body);
    response.setHeader("x-bench-at", String(this.#store.toldAtMs));
    send(response, method === "POST" ? 201 : 200, text);
  }

  #read(place: Place, query: URLSearchParams, request: IncomingMessage, response: ServerResponse): void {
    if (place.name !== undefined) {
      const text = this.#store.get(place);
      if (text === undefined) throw notFound(place);
      return send(response, 200, text);
    }
    if (["1", "true"].includes(query.get("watch") ?? "")) return this.#watch(place, query, request, response);
    const selector = query.get("labelSelector");
    const limit = query.get("limit");
    const parts =
      selector === null && place.namespace === undefined
        ? this.#store.list(place.plural, limit === null ? undefined : Number(limit), query.get("continue") ?? undefined)
        : this.#store.listWhere(
            place.plural,
            (object) => isIn(object, place.namespace) && matches(object, selector ?? ""),
          );
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    response.writeHead(200, { "content-type": "application/json", "content-length": length });
    for (const part of parts) response.write(part);
    response.end();
  }

  #watch({ plural }: Place, query: URLSearchParams, request: IncomingMessage, response: ServerResponse): void {
    request.socket.setNoDelay(true);
    const pending: string[] = [];
    let begun = false;
    const end = this.#store.watch(plural, Number(query.get("resourceVersion") ?? this.#store.revision), (event) => {
      if (begun) response.write(event);
      else pending.push(event);
    });
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    begun = true;
    if (pending.length > 0) response.write(pending.join(""));
    const bookmarks = setInterval(() => response.write(this.#store.bookmark(plural)), BOOKMARK_MS);
    const limit = setTimeout(() => response.end(), Number(query.get("timeoutSeconds") ?? "600") * 1_000);
    response.once("close", () => {
      end();
      clearInterval(bookmarks);
      clearTimeout(limit);
    });
  }

  /** The stored object as text. */
  #write(method: string, place: Place, body: string): string {
    const store = this.#store;
    const given = body === "" ? {} : (JSON.parse(body) as JsonObject);
    if (method === "POST") {
      const name = objectAt(given["metadata"])["name"];
      const at = { ...place, name: typeof name === "string" ? name : undefined };
      if (store.get(at) !== undefined)
        throw new Refused(409, "AlreadyExists", `${place.plural} ${at.name} already exists`);
      return store.put(place.plural, withUid(given));
    }
    const current = store.get(place);
    if (current === undefined) throw notFound(place);
    const object = JSON.parse(current) as JsonObject;
    const wanted = method === "DELETE" ? objectAt(given["preconditions"]) : objectAt(given["metadata"]);
    for (const field of ["resourceVersion", "uid"])
      if (wanted[field] !== undefined && wanted[field] !== objectAt(object["metadata"])[field])
        throw new Refused(409, "Conflict", `${place.plural} ${place.name}: the object has been modified`);
    if (method === "DELETE") return store.remove(place);
    const next = method === "PATCH" ? applyMergePatch(object, given) : given;
    if (!isJsonObject(next)) throw new Refused(400, "BadRequest", "the object is none");
    return store.put(place.plural, withUid(next));
  }

  async #bench({ pathname, searchParams }: URL): Promise<unknown> {
    const number = (name: string): number => Number(searchParams.get(name));
    const world = this.#world;
    const paced = (change: () => MemberChange): Promise<MemberChange[]> =>
      pace(number("rate"), number("count"), change);
    const nothing = (): MemberChange => ({ atMs: wallMs(), key: "" });
    switch (pathname) {
      case "/bench/writes":
        return Object.fromEntries(this.#writes);
      case "/bench/member":
        return world.memberOf(number("app"));
      case "/bench/addresses":
        return paced(() => world.moveAddress(searchParams.get("blocks") === "yes"));
      case "/bench/labels":
        return paced(() => world.changeApp());
      case "/bench/blocks":
        return paced(() => (world.touchBlock(), nothing()));
      case "/bench/nodes":
        return paced(() => (world.touchNode(), nothing()));
      default:
        throw new Refused(404, "NotFound", `the bench has no ${pathname}`);
    }
  }
}

/** So many changes at so many a second; what is late is made up for. */
async function pace(rate: number, count: number, change: () => MemberChange): Promise<MemberChange[]> {
  const made: MemberChange[] = [];
  const start = performance.now();
  while (made.length < count) {
    const due = start + (made.length * 1_000) / rate - performance.now();
    if (due > 0) await Bun.sleep(due);
    made.push(change());
  }
  return made;
}

function isIn(object: JsonObject, namespace: string | undefined): boolean {
  return namespace === undefined || objectAt(object["metadata"])["namespace"] === namespace;
}

/** `a=b,c=d` alone. */
function matches(object: JsonObject, selector: string): boolean {
  const labels = objectAt(objectAt(object["metadata"])["labels"]);
  return selector
    .split(",")
    .every((part) => part === "" || labels[part.slice(0, part.indexOf("="))] === part.slice(part.indexOf("=") + 1));
}

function withUid(object: JsonObject): JsonObject {
  const metadata = objectAt(object["metadata"]);
  return { ...object, metadata: { ...metadata, uid: metadata["uid"] ?? crypto.randomUUID() } };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks).toString();
}

function send(response: ServerResponse, code: number, text: string): void {
  const body = Buffer.from(text);
  response.writeHead(code, { "content-type": "application/json", "content-length": body.length }).end(body);
}

if (import.meta.main) {
  const [name, weight, kinds, address = "127.0.0.1", port = "0"] = process.argv.slice(2);
  const size = SIZES.find((each) => each.name === name);
  if (size === undefined || (weight !== "lean" && weight !== "fat")) throw new Error(`no size ${name}, ${weight}`);
  if (kinds !== "kubernetes" && kinds !== "calico") throw new Error(`no policies of ${kinds}`);
  const { port: bound } = await new BenchServer(size, weight, kinds).listen(address, Number(port));
  console.log(`serving on port ${bound}`);
}
