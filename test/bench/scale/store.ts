/**
 * store: the objects of the scale bench's API in memory: pages of lists prepared as bytes, and a log of changes for watches.
 *
 * An object stays on the page where it was put, so that a change makes one page anew and no list is ever put together while it is
 * asked for. The page of a list may hold newer objects than the list's revision says; the watch from there tells them again.
 */
import { isJsonObject, type JsonObject } from "../../../src/model/schema/json.ts";
import { wallMs } from "./clock.ts";

/** What a request path names: `pods`, and of which namespace and name. */
export interface Place {
  readonly plural: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

export type EventType = "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
type Watcher = (event: string) => void;

interface Entry {
  readonly page: number;
  readonly place: number;
  text: string;
  revision: number;
}

export const PAGE_SIZE = 25;
/** Events of a kind that a watch may still begin before. */
const LOG_LENGTH = 20_000;

class Collection {
  readonly apiVersion: string;
  readonly kind: string;
  readonly entries = new Map<string, Entry>();
  readonly watchers = new Set<Watcher>();
  /** Oldest first. */
  readonly log: { readonly revision: number; readonly event: string }[] = [];
  /** Revision of the newest event that is not in the log any more. */
  forgotten = 0;
  readonly #pages: (string | undefined)[][] = [];
  readonly #bytes: (Uint8Array | undefined)[] = [];

  constructor(apiVersion: string, kind: string) {
    this.apiVersion = apiVersion;
    this.kind = kind;
  }

  put(id: string, text: string, revision: number): boolean {
    const found = this.entries.get(id);
    if (found !== undefined) {
      found.text = text;
      found.revision = revision;
      this.#set(found.page, found.place, text);
      return false;
    }
    if ((this.#pages.at(-1)?.length ?? PAGE_SIZE) === PAGE_SIZE) this.#pages.push([]);
    const page = this.#pages.length - 1;
    const place = this.#pages[page]?.length ?? 0;
    this.entries.set(id, { page, place, text, revision });
    this.#set(page, place, text);
    return true;
  }

  remove(id: string): void {
    const found = this.entries.get(id);
    if (found === undefined) return;
    this.entries.delete(id);
    this.#set(found.page, found.place, undefined);
  }

  get pages(): number {
    return this.#pages.length;
  }

  /** The items of a page, joined by commas. */
  page(index: number): Uint8Array {
    return (this.#bytes[index] ??= Buffer.from(
      (this.#pages[index] ?? []).filter((text) => text !== undefined).join(","),
    ));
  }

  #set(page: number, place: number, text: string | undefined): void {
    const texts = this.#pages[page];
    if (texts !== undefined) texts[place] = text;
    this.#bytes[page] = undefined;
  }

  tell(event: string, revision: number): void {
    this.log.push({ revision, event });
    if (this.log.length > LOG_LENGTH)
      for (const gone of this.log.splice(0, LOG_LENGTH / 2)) this.forgotten = gone.revision;
    for (const watcher of this.watchers) watcher(event);
  }
}

export class Refused extends Error {
  override readonly name = "Refused";
  readonly code: number;
  readonly reason: string;
  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

export class ApiStore {
  readonly #collections = new Map<string, Collection>();
  #revision = 1_000;
  /** When the last change was told: after all that it cost the server, which for an object of 200 KB is milliseconds. */
  toldAtMs = 0;

  get revision(): number {
    return this.#revision;
  }

  define(plural: string, apiVersion: string, kind: string): void {
    this.#collections.set(plural, new Collection(apiVersion, kind));
  }

  #collection(plural: string): Collection {
    const found = this.#collections.get(plural);
    if (found === undefined) throw new Refused(404, "NotFound", `there is no kind ${plural}`);
    return found;
  }

  get(place: Place): string | undefined {
    return this.#collection(place.plural).entries.get(idOf(place))?.text;
  }

  count(plural: string): number {
    return this.#collection(plural).entries.size;
  }

  /** Stores it under a new revision and tells the watches; the stored text. */
  put(plural: string, object: object): string {
    const collection = this.#collection(plural);
    const revision = ++this.#revision;
    const given: unknown = "metadata" in object ? object.metadata : undefined;
    const metadata: JsonObject = { ...(isJsonObject(given) ? given : {}), resourceVersion: String(revision) };
    const text = JSON.stringify({ ...object, metadata });
    const added = collection.put(idOfMetadata(metadata), text, revision);
    this.toldAtMs = wallMs();
    collection.tell(eventText(added ? "ADDED" : "MODIFIED", text), revision);
    return text;
  }

  remove(place: Place): string {
    const collection = this.#collection(place.plural);
    const found = collection.entries.get(idOf(place));
    if (found === undefined) throw notFound(place);
    const revision = ++this.#revision;
    collection.remove(idOf(place));
    const last = found.text.replace(/"resourceVersion":"\d+"/, `"resourceVersion":"${revision}"`);
    this.toldAtMs = wallMs();
    collection.tell(eventText("DELETED", last), revision);
    return last;
  }

  /** Forgets what filling it told nobody, and makes all pages. */
  prepare(): void {
    for (const collection of this.#collections.values()) {
      collection.log.length = 0;
      collection.forgotten = this.#revision;
      for (let i = 0; i < collection.pages; i++) collection.page(i);
    }
  }

  /** A page of a list as bytes of JSON. `token` is what the page before gave as `continue`. */
  list(plural: string, limit: number | undefined, token: string | undefined): readonly Uint8Array[] {
    const collection = this.#collection(plural);
    const [revision = this.#revision, first = 0] = token === undefined ? [] : token.split(".").map(Number);
    const last =
      limit === undefined
        ? collection.pages
        : Math.min(collection.pages, first + Math.max(1, Math.floor(limit / PAGE_SIZE)));
    const more = last < collection.pages ? `,"continue":"${revision}.${last}"` : "";
    const parts: Uint8Array[] = [head(collection, revision, more)];
    for (let i = first; i < last; i++) {
      const page = collection.page(i);
      if (page.length > 0 && parts.length > 1) parts.push(COMMA);
      if (page.length > 0) parts.push(page);
    }
    parts.push(END);
    return parts;
  }

  /** The whole list of what the filter passes, not prepared: for lists of few objects. */
  listWhere(plural: string, passes: (object: JsonObject) => boolean): readonly Uint8Array[] {
    const collection = this.#collection(plural);
    const texts = [...collection.entries.values()]
      .map(({ text }) => text)
      .filter((text) => passes(JSON.parse(text) as JsonObject));
    return [head(collection, this.#revision, ""), Buffer.from(texts.join(",")), END];
  }

  /** Tells every later event, first those since the revision; throws Refused (410) when these are not known any more. Returns how to end it. */
  watch(plural: string, since: number, watcher: Watcher): () => void {
    const collection = this.#collection(plural);
    if (since < collection.forgotten)
      throw new Refused(410, "Expired", `too old resource version: ${since} (${collection.forgotten})`);
    for (const { revision, event } of collection.log) if (revision > since) watcher(event);
    collection.watchers.add(watcher);
    return () => collection.watchers.delete(watcher);
  }

  bookmark(plural: string): string {
    const { apiVersion, kind } = this.#collection(plural);
    const object = { apiVersion, kind, metadata: { resourceVersion: String(this.#revision) } };
    return eventText("BOOKMARK", JSON.stringify(object));
  }
}

const COMMA = Buffer.from(",");
const END = Buffer.from("]}");

function head({ apiVersion, kind }: Collection, revision: number, more: string): Uint8Array {
  return Buffer.from(
    `{"apiVersion":"${apiVersion}","kind":"${kind}List","metadata":{"resourceVersion":"${revision}"${more}},"items":[`,
  );
}

function eventText(type: EventType, object: string): string {
  return `{"type":"${type}","object":${object}}\n`;
}

function idOf({ namespace, name }: Place): string {
  return `${namespace ?? ""}/${name ?? ""}`;
}

function idOfMetadata(metadata: JsonObject): string {
  return `${typeof metadata["namespace"] === "string" ? metadata["namespace"] : ""}/${String(metadata["name"])}`;
}

export function notFound({ plural, name }: Place): Refused {
  return new Refused(404, "NotFound", `${plural} ${JSON.stringify(name ?? "")} not found`);
}
