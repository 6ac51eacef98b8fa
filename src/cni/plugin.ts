/**
 * plugin: the CNI plugins `calico` and `calico-ipam`: read the request, pass it to the node daemon, print the answer.
 *
 * They hold no credentials and touch no kernel object. The import closure stays as small as it is: a container runtime starts
 * this program for every pod. Exit code 0 with a result, 1 with an error object, as the CNI specification says.
 */
import type { Sockets } from "../host/sockets.ts";
import {
  CNI_COMMANDS,
  CNI_DECODE_FAILURE,
  CNI_INCOMPATIBLE_VERSION,
  CNI_INVALID_CONFIG,
  CNI_INVALID_ENVIRONMENT,
  CNI_NOT_AVAILABLE,
  CNI_TRY_AGAIN_LATER,
  type CniAnswer,
  type CniCommand,
  type CniError,
  type CniRequest,
} from "../podnet/protocol.ts";
import { formatResult, isSupported, SUPPORTED_VERSIONS } from "./versions.ts";

export interface PluginInput {
  readonly plugin: "calico" | "calico-ipam";
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Standard input, whole. */
  readonly stdin: string;
}

export interface PluginOutput {
  readonly exitCode: number;
  readonly stdout: string;
}

/** Where the daemon listens unless the configuration's `daemon_socket` says otherwise. */
export const DEFAULT_SOCKET = "/var/run/calico/cni.sock";
const HIGHEST = "1.1.0";

export async function runPlugin(input: PluginInput, sockets: Pick<Sockets, "connect">): Promise<PluginOutput> {
  const command = input.environment["CNI_COMMAND"] ?? "";
  if (command === "VERSION") return { exitCode: 0, stdout: print({ cniVersion: HIGHEST, supportedVersions: SUPPORTED_VERSIONS }) };
  if (!CNI_COMMANDS.some((known) => known === command)) {
    return failed("", { code: CNI_INVALID_ENVIRONMENT, msg: `CNI_COMMAND is ${JSON.stringify(command)}, must be one of ADD, DEL, CHECK, STATUS, VERSION` });
  }
  const config = parseConfig(input.stdin);
  if ("error" in config) return failed("", config.error);
  const version = String(config.value["cniVersion"] ?? "");
  if (!isSupported(version)) {
    return failed("", { code: CNI_INCOMPATIBLE_VERSION, msg: `network configuration field cniVersion is ${JSON.stringify(version)}, must be one of ${SUPPORTED_VERSIONS.join(", ")}` });
  }
  const request = makeRequest(input, command as CniCommand, config.value);
  if ("error" in request) return failed(version, request.error);
  const answer = await ask(request.value, sockets);
  if (!answer.ok) return failed(version, answer.error);
  if (answer.result === undefined) return { exitCode: 0, stdout: "" };
  return { exitCode: 0, stdout: print(formatResult(answer.result, version)) };
}

type Checked<T> = { readonly value: T } | { readonly error: CniError };

function parseConfig(text: string): Checked<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { value: { ...value } };
    return { error: { code: CNI_DECODE_FAILURE, msg: "network configuration on standard input must be a JSON object" } };
  } catch (error) {
    return { error: { code: CNI_DECODE_FAILURE, msg: "network configuration on standard input is not JSON", details: error instanceof Error ? error.message : String(error) } };
  }
}

function makeRequest(input: PluginInput, command: CniCommand, config: Record<string, unknown>): Checked<CniRequest> {
  const value = (name: string): string => input.environment[name] ?? "";
  const wanted: Record<CniCommand, readonly string[]> = {
    ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
    CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
    DEL: ["CNI_CONTAINERID", "CNI_IFNAME"],
    STATUS: [],
  };
  for (const name of wanted[command]) {
    if (value(name) === "") return { error: { code: CNI_INVALID_ENVIRONMENT, msg: `environment variable ${name} is missing, ${command} needs it` } };
  }
  const socket = config["daemon_socket"];
  if (socket !== undefined && (typeof socket !== "string" || !socket.startsWith("/"))) {
    return { error: { code: CNI_INVALID_CONFIG, msg: `network configuration field daemon_socket is ${JSON.stringify(socket)}, must be an absolute path` } };
  }
  const args = parseArgs(value("CNI_ARGS"));
  if ("error" in args) return args;
  return {
    value: { command, plugin: input.plugin, containerId: value("CNI_CONTAINERID"), netns: value("CNI_NETNS"), interface: value("CNI_IFNAME"), args: args.value, config },
  };
}

/** `K=V;K=V`, in any order. */
function parseArgs(text: string): Checked<Record<string, string>> {
  const args: Record<string, string> = {};
  for (const pair of text.split(";")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    if (equals < 1) return { error: { code: CNI_INVALID_ENVIRONMENT, msg: `CNI_ARGS has ${JSON.stringify(pair)}, must be KEY=VALUE pairs separated by ";"` } };
    args[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  return { value: args };
}

async function ask(request: CniRequest, sockets: Pick<Sockets, "connect">): Promise<CniAnswer> {
  const path = typeof request.config["daemon_socket"] === "string" ? request.config["daemon_socket"] : DEFAULT_SOCKET;
  const code = request.command === "STATUS" ? CNI_NOT_AVAILABLE : CNI_TRY_AGAIN_LATER;
  try {
    const connection = await sockets.connect(path);
    await connection.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of connection.input) text += decoder.decode(chunk, { stream: true });
    connection.end();
    if (text === "") return { ok: false, error: { code, msg: `calico node closed ${path} without an answer: it may be restarting, try again` } };
    return JSON.parse(text) as CniAnswer;
  } catch (error) {
    const details = error instanceof Error ? error.message : String(error);
    return { ok: false, error: { code, msg: `cannot reach calico node at ${path}: is it running on this node?`, details } };
  }
}

function failed(version: string, error: CniError): PluginOutput {
  return { exitCode: 1, stdout: print({ cniVersion: version === "" ? HIGHEST : version, ...error }) };
}

function print(value: object): string {
  return JSON.stringify(value);
}
