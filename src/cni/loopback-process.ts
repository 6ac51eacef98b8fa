/** loopback-process: the plugin `loopback` as a process; separate from `process.ts`, whose plugins do without the clients of the kernel and so start faster. */
import { openPluginHost } from "../host/bun/plugin.ts";
import { openSys } from "../host/bun/sys.ts";
import { runLoopback } from "./loopback.ts";

export function runLoopbackProcess(environment: Readonly<Record<string, string | undefined>>): number {
  const host = openPluginHost();
  const stdin = environment["CNI_COMMAND"] === "VERSION" ? "" : host.readStdin();
  const { exitCode, stdout } = runLoopback({ environment, stdin }, openSys);
  if (stdout !== "") host.writeStdout(stdout);
  return exitCode;
}
