/** iperf: one TCP stream in packets of 1,500 bytes, and the CPU time that sender and receiver spend on each; on veth that includes the path. */
import { cpuNanoseconds } from "./processes.ts";

const PAYLOAD_BYTES = 1448;

/** In the network namespace at the path; the caller ends it. */
export function startIperf(netns: string, port: number): { readonly pid: number; readonly kill: () => void } {
  const child = Bun.spawn(["nsenter", `--net=${netns}`, "--", "iperf3", "-s", "-p", String(port)], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  });
  return { pid: child.pid, kill: () => child.kill() };
}

export interface StreamOptions {
  /** Path of the client's network namespace. */
  readonly netns: string;
  readonly address: string;
  readonly port: number;
  readonly seconds: number;
  /** undefined: the kernel's choice. */
  readonly source?: string;
  /** Of iperf3's server. */
  readonly serverPid: number;
}

/** Microseconds of CPU of client and server for each packet. */
export async function cpuPerPacket({
  netns,
  address,
  port,
  seconds,
  source,
  serverPid,
}: StreamOptions): Promise<number> {
  const before = cpuNanoseconds(serverPid);
  const bind = source === undefined ? [] : ["-B", source];
  const stream = ["-t", String(seconds), "-M", String(PAYLOAD_BYTES), "-p", String(port), "-c", address, ...bind];
  const child = Bun.spawn(["nsenter", `--net=${netns}`, "--", "iperf3", "-J", ...stream], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const printed = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`iperf3 to ${address}: ${printed}`);
  const { end } = JSON.parse(printed) as {
    readonly end: {
      readonly sum_received: { readonly bytes: number };
      readonly cpu_utilization_percent: { readonly host_total: number };
    };
  };
  const serverCpu = cpuNanoseconds(serverPid) - before;
  const clientCpu = (end.cpu_utilization_percent.host_total / 100) * seconds * 1e9;
  return (serverCpu + clientCpu) / 1e3 / (end.sum_received.bytes / PAYLOAD_BYTES);
}
