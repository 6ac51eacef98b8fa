/**
 * loopback: the CNI plugin `loopback`, which every container runtime calls for each pod in addition to the network's plugin: it sets
 * `lo` up and returns the addresses that the kernel gave it.
 *
 * Works without the daemon: a pod has its loopback whatever the state of the network. `CNI_IFNAME` is ignored, because there is only one
 * loopback.
 */
import type { Sys } from "../host/sys.ts";
import { EINVAL, ENOENT, KernelError } from "../kernel/errno.ts";
import { type Loopback, readLoopback, setLoopback } from "../podnet/loopback.ts";
import { CNI_CHECK_FAILED, CNI_FAILED, type CniResult } from "../podnet/protocol.ts";
import { type Execution, failed, type PluginInput, type PluginOutput, print, readExecution } from "./execution.ts";
import { formatResult } from "./versions.ts";

/** `openSys` is called only when the kernel is needed. */
export function runLoopback(input: PluginInput, openSys: () => Sys): PluginOutput {
  const execution = readExecution(input);
  if ("exitCode" in execution) return execution;
  const netns = input.environment["CNI_NETNS"] ?? "";
  try {
    return run(execution, netns, openSys);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return failed(execution.version, {
      code: CNI_FAILED,
      msg: `${execution.command} of interface lo in network namespace ${JSON.stringify(netns)} failed`,
      details: error.message,
    });
  }
}

const NOTHING: PluginOutput = { exitCode: 0, stdout: "" };

function run({ command, version, config }: Execution, netns: string, openSys: () => Sys): PluginOutput {
  switch (command) {
    case "ADD": {
      const loopback = setLoopback(openSys(), netns, true);
      const before = config["prevResult"];
      // Later in a chain, the result of the previous plugins stays the answer.
      return {
        exitCode: 0,
        stdout:
          typeof before === "object" && before !== null
            ? print(before)
            : print(formatResult(resultOf(loopback, netns), version)),
      };
    }
    case "DEL":
      // A runtime repeats DEL after the namespace is gone, or when its path is an empty file again.
      if (netns !== "") ignoringAbsence(() => setLoopback(openSys(), netns, false));
      return NOTHING;
    case "CHECK":
      if (readLoopback(openSys(), netns).up) return NOTHING;
      return failed(version, {
        code: CNI_CHECK_FAILED,
        msg: `interface lo in network namespace ${JSON.stringify(netns)} is down, must be up`,
      });
    default:
      // STATUS: only the kernel is needed. GC: nothing is left once a namespace is gone.
      return NOTHING;
  }
}

function resultOf({ addresses }: Loopback, netns: string): CniResult {
  return {
    interfaces: [{ name: "lo", mac: "00:00:00:00:00:00", sandbox: netns }],
    ips: addresses.map((address) => ({ address, interface: 0 })),
    routes: [],
    dns: {},
  };
}

function ignoringAbsence(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof KernelError) || (error.errno !== ENOENT && error.errno !== EINVAL)) throw error;
  }
}
