/**
 * plugin: the CNI plugins `calico` and `calico-ipam`: read the request, pass it to the node daemon, print the answer.
 *
 * They hold no credentials and touch no kernel object. The import closure must stay small: a container runtime starts this program for
 * every pod. Exit code 0 with a result, 1 with an error object, by the CNI specification.
 */
import {
  CNI_INVALID_CONFIG,
  CNI_INVALID_ENVIRONMENT,
  CNI_NOT_AVAILABLE,
  CNI_TRY_AGAIN_LATER,
  type CniAnswer,
  type CniRequest,
} from "../podnet/protocol.ts";
import {
  type Checked,
  type Execution,
  failed,
  type PluginInput,
  type PluginOutput,
  print,
  readExecution,
} from "./execution.ts";
import { formatResult } from "./versions.ts";

export type PluginName = CniRequest["plugin"];

/** Where the daemon listens unless the configuration's `daemon_socket` says otherwise. */
const DEFAULT_SOCKET = "/var/run/calico/cni.sock";

/** Sends a request to the daemon that listens there; its answer, empty when there is none. Throws when it cannot be reached. */
export type Exchange = (path: string, request: string) => string;

export function runPlugin(plugin: PluginName, input: PluginInput, exchange: Exchange): PluginOutput {
  const execution = readExecution(input);
  if ("exitCode" in execution) return execution;
  const { version } = execution;
  const request = makeRequest(plugin, input, execution);
  if ("error" in request) return failed(version, request.error);
  const answer = ask(request.value, exchange);
  if (!answer.ok) return failed(version, answer.error);
  if (answer.result === undefined) return { exitCode: 0, stdout: "" };
  return { exitCode: 0, stdout: print(formatResult(answer.result, version)) };
}

function makeRequest(plugin: PluginName, input: PluginInput, { command, config }: Execution): Checked<CniRequest> {
  const value = (name: string): string => input.environment[name] ?? "";
  const socket = config["daemon_socket"];
  if (socket !== undefined && (typeof socket !== "string" || !socket.startsWith("/"))) {
    return {
      error: {
        code: CNI_INVALID_CONFIG,
        msg: `network configuration field daemon_socket is ${JSON.stringify(socket)}, must be an absolute path`,
      },
    };
  }
  const args = parseArgs(value("CNI_ARGS"));
  if ("error" in args) return args;
  return {
    value: {
      command,
      plugin,
      containerId: value("CNI_CONTAINERID"),
      netns: value("CNI_NETNS"),
      interface: value("CNI_IFNAME"),
      args: args.value,
      config,
    },
  };
}

/** `K=V;K=V`, in any order. */
function parseArgs(text: string): Checked<Record<string, string>> {
  const args: Record<string, string> = {};
  for (const pair of text.split(";")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    if (equals < 1)
      return {
        error: {
          code: CNI_INVALID_ENVIRONMENT,
          msg: `CNI_ARGS has ${JSON.stringify(pair)}, must be KEY=VALUE pairs separated by ";"`,
        },
      };
    args[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  return { value: args };
}

function ask(request: CniRequest, exchange: Exchange): CniAnswer {
  const path = typeof request.config["daemon_socket"] === "string" ? request.config["daemon_socket"] : DEFAULT_SOCKET;
  const code = request.command === "STATUS" ? CNI_NOT_AVAILABLE : CNI_TRY_AGAIN_LATER;
  try {
    const text = exchange(path, `${JSON.stringify(request)}\n`);
    if (text === "")
      return {
        ok: false,
        error: { code, msg: `calico node closed ${path} without an answer: it may be restarting, try again` },
      };
    return JSON.parse(text) as CniAnswer;
  } catch (error) {
    const details = error instanceof Error ? error.message : String(error);
    return {
      ok: false,
      error: { code, msg: `cannot reach calico node at ${path}: is it running on this node?`, details },
    };
  }
}
