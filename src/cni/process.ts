/** process: the plugins `calico` and `calico-ipam` as a process: environment and standard input in, standard output and exit code out. */
import { openPluginHost } from "../host/bun/plugin.ts";
import { type PluginName, runPlugin } from "./plugin.ts";

export function runPluginProcess(
  plugin: PluginName,
  environment: Readonly<Record<string, string | undefined>>,
): number {
  const host = openPluginHost();
  const stdin = environment["CNI_COMMAND"] === "VERSION" ? "" : host.readStdin();
  const { exitCode, stdout } = runPlugin(plugin, { environment, stdin }, host.exchange);
  if (stdout !== "") host.writeStdout(stdout);
  return exitCode;
}
