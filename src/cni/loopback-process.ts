/** loopback-process: the plugin `loopback` as a process; separate from `process.ts`, whose plugins need no system calls and so start faster. */
import { openPluginHost } from "../host/bun/plugin.ts";
import { openSys } from "../host/bun/sys.ts";
import { runLoopback } from "./loopback.ts";

export async function runLoopbackProcess(environment: Readonly<Record<string, string | undefined>>): Promise<number> {
  const host = openPluginHost();
  const stdin = environment["CNI_COMMAND"] === "VERSION" ? "" : await host.readStdin();
  const { exitCode, stdout } = runLoopback({ environment, stdin }, openSys);
  if (stdout !== "") host.writeStdout(stdout);
  return exitCode;
}
