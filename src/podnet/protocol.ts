/**
 * protocol: the protocol between the CNI plugin and the node daemon: one JSON object per line, one request and one answer per connection,
 * over a unix socket that only root may open.
 */

export const CNI_COMMANDS = ["ADD", "DEL", "CHECK", "STATUS", "GC"] as const;
export type CniCommand = (typeof CNI_COMMANDS)[number];

const PLUGINS = ["calico", "calico-ipam"] as const;

export interface CniRequest {
  readonly command: CniCommand;
  /** The plugin's own name: `calico` wires a pod; `calico-ipam` only assigns or releases addresses. */
  readonly plugin: (typeof PLUGINS)[number];
  readonly containerId: string;
  /** Path of the network namespace; empty when it is already gone. */
  readonly netns: string;
  readonly interface: string;
  /** `CNI_ARGS` as key and value. */
  readonly args: Readonly<Record<string, string>>;
  /** Network configuration from standard input, unchanged. */
  readonly config: Readonly<Record<string, unknown>>;
}

export type CniAnswer =
  | { readonly ok: true; readonly result: CniResult | undefined }
  | { readonly ok: false; readonly error: CniError };

/** CNI specification, "Error": codes below 100 are the specification's. */
export interface CniError {
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

export const CNI_INCOMPATIBLE_VERSION = 1;
export const CNI_UNKNOWN_CONTAINER = 3;
export const CNI_INVALID_ENVIRONMENT = 4;
export const CNI_DECODE_FAILURE = 6;
export const CNI_INVALID_CONFIG = 7;
export const CNI_TRY_AGAIN_LATER = 11;
export const CNI_NOT_AVAILABLE = 50;
/** Ours: the kernel differs from what ADD made (CHECK). */
export const CNI_CHECK_FAILED = 100;
/** Ours: no address could be assigned, or the kernel refused. */
export const CNI_FAILED = 101;

/** CNI specification 1.0.0, "Success"; the plugin converts to older versions. */
export interface CniResult {
  readonly interfaces: readonly {
    readonly name: string;
    readonly mac?: string;
    readonly mtu?: number;
    readonly sandbox?: string;
  }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[];
  readonly dns: Readonly<Record<string, never>>;
}

/** Why a container id or a network's name is invalid by the CNI specification; undefined when it is valid. */
export function whyNotIdentifier(text: string): string | undefined {
  return /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(text)
    ? undefined
    : 'a letter or digit, then letters, digits, "_", "." and "-"';
}

/** Why the kernel would refuse an interface name; undefined when it is valid. Source: linux net/core/dev.c, dev_valid_name. */
export function whyNotInterfaceName(text: string): string | undefined {
  const valid = new TextEncoder().encode(text).length <= 15 && /^[^/:\s]+$/.test(text) && text !== "." && text !== "..";
  return valid ? undefined : 'at most 15 bytes without "/", ":" and white space, and not "." or ".."';
}

/** Longer requests are refused: a network configuration has a few thousand bytes. */
export const MAX_REQUEST_BYTES = 1 << 20;

/** Reads the request from one line of JSON, or returns the error. The server validates the content of the fields. */
export function parseRequest(text: string): { readonly request: CniRequest } | { readonly error: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { error: "request is not one line of JSON" };
  }
  if (!isObject(value)) return { error: "request must be an object" };
  try {
    return {
      request: {
        command: oneOf(value, "command", CNI_COMMANDS),
        plugin: oneOf(value, "plugin", PLUGINS),
        containerId: textAt(value, "containerId"),
        netns: textAt(value, "netns"),
        interface: textAt(value, "interface"),
        args: textsAt(value, "args"),
        config: objectAt(value, "config"),
      },
    };
  } catch (error) {
    if (error instanceof WrongField) return { error: error.message };
    throw error;
  }
}

class WrongField extends Error {
  constructor(field: string, value: unknown, wanted: string) {
    super(`request field ${field} is ${value === undefined ? "missing" : JSON.stringify(value)}, must be ${wanted}`);
  }
}

function oneOf<T extends string>(request: Readonly<Record<string, unknown>>, field: string, allowed: readonly T[]): T {
  const found = allowed.find((text) => text === request[field]);
  if (found === undefined) throw new WrongField(field, request[field], `one of ${allowed.join(", ")}`);
  return found;
}

function textAt(request: Readonly<Record<string, unknown>>, field: string): string {
  const value = request[field];
  if (typeof value !== "string") throw new WrongField(field, value, "a string");
  return value;
}

function objectAt(request: Readonly<Record<string, unknown>>, field: string): Readonly<Record<string, unknown>> {
  const value = request[field];
  if (!isObject(value)) throw new WrongField(field, value, "an object");
  return value;
}

function textsAt(request: Readonly<Record<string, unknown>>, field: string): Readonly<Record<string, string>> {
  const value = objectAt(request, field);
  return Object.fromEntries(
    Object.keys(value).map((name) => {
      const text = value[name];
      if (typeof text !== "string") throw new WrongField(`${field}.${name}`, text, "a string");
      return [name, text];
    }),
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
