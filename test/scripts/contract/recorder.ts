/**
 * recorder: carries out exchanges with an API server, by plain requests and by kubectl, and keeps for each a record: what was asked, and what
 * was answered, normalised. Two servers are compared by their records.
 */
import { type Json, Normaliser } from "./normalise.ts";
import type { ApiServer, Credentials } from "./server.ts";

/** What was asked and answered under one name. */
export interface Exchange {
  readonly asked: Json;
  readonly answered: Json;
}

export type Records = Map<string, Exchange>;

export interface Asking {
  readonly body?: unknown;
  /** Says what the body is, where it was made of an answer. */
  readonly saying?: string;
  /** Of the body; JSON when absent. */
  readonly type?: string;
  readonly accept?: string;
  readonly credentials?: Credentials;
  /** The part of the answer to keep, instead of all of it. */
  readonly select?: (body: Json) => Json;
}

export interface Reply {
  readonly status: number;
  /** As it came. */
  readonly text: string;
  readonly headers: Headers;
  /** The body where it is a JSON object, otherwise empty. */
  readonly object: Fields;
}

export interface Fields {
  readonly [name: string]: unknown;
}

export interface Watching {
  /** The watch is read until an object of this name occurs, so that what comes before it is complete. */
  readonly until?: string;
  readonly accept?: string;
  readonly during?: () => Promise<void>;
  readonly select?: (event: Json) => Json;
}

export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Typing {
  readonly input?: string;
  /** The part of standard output to keep. */
  readonly select?: (stdout: string) => string;
  /** The part of standard error to keep. */
  readonly selectError?: (stderr: string) => string;
}

export interface Client {
  readonly kubectl: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

const HEADERS = ["cache-control", "content-type", "retry-after", "www-authenticate"];
const WATCH_LIMIT_MS = 60_000;
const POLL_LIMIT_MS = 60_000;

export class Recorder {
  readonly records: Records = new Map();
  /** Random, so that runs side by side do not meet. */
  readonly suffix = Buffer.from(crypto.getRandomValues(new Uint8Array(3))).toString("hex");
  readonly #server: ApiServer;
  readonly #client: Client;
  readonly #normaliser = new Normaliser(this.suffix);

  constructor(server: ApiServer, client: Client) {
    this.#server = server;
    this.#client = client;
  }

  /** Records something that was seen beside the exchanges. */
  fact(name: string, asked: string, answered: Json): void {
    this.#keep(name, asked, answered);
  }

  #keep(name: string, asked: Json, answered: Json): void {
    if (this.records.has(name)) throw new Error(`two exchanges are called ${JSON.stringify(name)}`);
    this.records.set(name, { asked, answered });
  }

  /** One request and its answer, not recorded. */
  async send(method: string, path: string, asking: Asking = {}): Promise<Reply> {
    const { body, type, accept, credentials } = asking;
    const headers = {
      ...(body === undefined ? {} : { "Content-Type": type ?? "application/json" }),
      Accept: accept ?? "application/json",
    };
    const encoded =
      body === undefined
        ? undefined
        : typeof body === "string"
          ? body
          : body instanceof Uint8Array
            ? new Uint8Array(body)
            : JSON.stringify(body);
    const response = await this.#server.fetch({
      method,
      path,
      headers,
      body: encoded,
      credentials: credentials ?? "administrator",
    });
    const text = await response.text();
    return { status: response.status, text, headers: response.headers, object: objectOf(text) };
  }

  /** One request and its answer. */
  async request(name: string, method: string, path: string, asking: Asking = {}): Promise<Reply> {
    const reply = await this.send(method, path, asking);
    const { body, saying, type, accept, credentials, select } = asking;
    const asked = {
      request: `${method} ${this.#normaliser.path(path)}`,
      ...(type === undefined ? {} : { type }),
      ...(accept === undefined ? {} : { accept }),
      ...(credentials === undefined ? {} : { credentials }),
      ...(body === undefined ? {} : { body: saying ?? this.#askedBody(body) }),
    };
    const whole = this.#answeredBody(reply);
    this.#keep(name, asked, {
      status: reply.status,
      headers: this.#headers(reply.headers),
      form: formOf(reply.text),
      body: select === undefined ? whole : select(whole),
    });
    return reply;
  }

  /** A value without what differs from run to run. */
  normalised(value: unknown): Json {
    return this.#normaliser.value(value);
  }

  #askedBody(body: unknown): Json {
    if (body instanceof Uint8Array) return `${body.length} bytes`;
    return typeof body === "string"
      ? this.#normaliser.text(body.length > 200 ? `${body.slice(0, 40)}… ${body.length} characters` : body)
      : this.#normaliser.value(JSON.parse(JSON.stringify(body)));
  }

  #answeredBody(reply: Reply): Json {
    return reply.text.startsWith("{")
      ? this.#normaliser.value(JSON.parse(reply.text))
      : this.#normaliser.text(reply.text);
  }

  #headers(headers: Headers): Json {
    const shown = HEADERS.flatMap((name): [string, Json][] => {
      const value = headers.get(name);
      return value === null ? [] : [[name, this.#normaliser.text(value)]];
    });
    const warnings = headers.get("warning");
    return {
      ...Object.fromEntries(shown),
      ...(warnings === null ? {} : { warning: this.#normaliser.text(warnings) }),
      ...(headers.has("etag") ? { etag: "TAG" } : {}),
    };
  }

  /** The events of a watch, line by line, in order; equal bookmarks that follow each other count as one. */
  async watch(name: string, path: string, watching: Watching = {}): Promise<void> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), WATCH_LIMIT_MS);
    const headers = { Accept: watching.accept ?? "application/json" };
    const response = await this.#server.fetch({
      method: "GET",
      path,
      headers,
      body: undefined,
      credentials: "administrator",
      signal: abort.signal,
    });
    const working = watching.during?.();
    const events: Json[] = [];
    const forms = new Set<string>();
    for await (const line of linesOf(response)) {
      forms.add(formOf(line));
      const event = line.startsWith("{") ? this.#normaliser.value(JSON.parse(line)) : this.#normaliser.text(line);
      const shown = watching.select === undefined ? event : watching.select(event);
      if (!(line.includes('"BOOKMARK"') && JSON.stringify(events.at(-1)) === JSON.stringify(shown))) events.push(shown);
      if (watching.until !== undefined && line.includes(`"${watching.until}"`)) break;
    }
    await working;
    clearTimeout(timer);
    abort.abort();
    const asked = {
      watch: this.#normaliser.path(path),
      ...(watching.accept === undefined ? {} : { accept: watching.accept }),
    };
    this.#keep(name, asked, {
      status: response.status,
      headers: this.#headers(response.headers),
      form: [...forms].sort().join(" and "),
      events,
    });
  }

  /** kubectl, not recorded. */
  async run(args: readonly string[], input = ""): Promise<Outcome> {
    const child = Bun.spawn([this.#client.kubectl, ...args], {
      stdin: Buffer.from(input),
      stdout: "pipe",
      stderr: "pipe",
      env: this.#client.environment,
    });
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { exitCode, stdout, stderr };
  }

  /** kubectl and what it said. */
  async kubectl(name: string, args: readonly string[], typing: Typing = {}): Promise<Outcome> {
    const outcome = await this.run(args, typing.input);
    const { select, selectError } = typing;
    const asked = {
      kubectl: args.map((arg) => this.#normaliser.text(arg)),
      ...(typing.input === undefined ? {} : { input: this.#normaliser.text(typing.input) }),
    };
    const said = (text: string, part: ((text: string) => string) | undefined): string =>
      this.#normaliser.output((part === undefined ? text : part(text)).replaceAll(this.#server.url, "SERVER"));
    this.#keep(name, asked, {
      exit: outcome.exitCode,
      stdout: said(outcome.stdout, select),
      stderr: said(outcome.stderr, selectError),
    });
    return outcome;
  }

  /** Polls until the request is answered with the status. */
  async until(path: string, status: number): Promise<void> {
    const end = Date.now() + POLL_LIMIT_MS;
    for (;;) {
      const reply = await this.send("GET", path);
      if (reply.status === status) return;
      if (Date.now() > end)
        throw new Error(
          `GET ${path} is answered with ${reply.status} after a minute, not with ${status}: ${reply.text.slice(0, 300)}`,
        );
      await Bun.sleep(50);
    }
  }
}

function objectOf(text: string): Fields {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
  } catch {
    return {};
  }
}

async function* linesOf(response: Response): AsyncGenerator<string> {
  if (response.body === null) return;
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of response.body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield line;
  }
  if (rest !== "") yield rest;
}

/** What the bytes are beside the value that they stand for: clients read them line by line, or look at the first one. */
function formOf(text: string): string {
  const line = text.endsWith("\n") ? text.slice(0, -1) : text;
  const end = line === text ? "" : ", newline";
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return `${line === "" ? "empty" : "text"}${end}`;
  }
  // Go writes <, > and & as escapes, as well as the two separators that JavaScript took for ends of lines.
  const escaped = !/[<>&\u2028\u2029]/.test(line);
  const compact = !/^\s|\s$/.test(line) && line.replace(/"(?:[^"\\]|\\.)*"/g, '""').search(/\s/) < 0;
  return `${compact ? "compact" : "spaced"} JSON ${typeof value}${escaped ? "" : ", raw <>&"}${end}`;
}

/** A field of an object, step by step; undefined when there is none. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (current, step) =>
      typeof current === "object" && current !== null
        ? (current as Readonly<Record<string | number, unknown>>)[step]
        : undefined,
    value,
  );
}

export function textAt(value: unknown, ...path: readonly (string | number)[]): string {
  return String(at(value, ...path));
}
