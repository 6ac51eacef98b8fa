/** memory: proportional set size of an idle node daemon, beside BIRD's. */
import { readFileSync } from "node:fs";
import { type Lab, until } from "../conformance/fixture.ts";

function pssMegabytes(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? "0") / 1024;
}

export async function benchMemory(lab: Lab): Promise<void> {
  console.log("\n== memory of an idle node daemon");
  const { nodes } = await lab.status();
  for (const node of nodes) await until("the daemon to be idle", async () => (await lab.daemon(node)).backlog === 0);
  for (const node of nodes)
    console.log(
      `${node.name}: calico node ${pssMegabytes(node.pid).toFixed(1)} MB PSS (aim: under 80), bird ${pssMegabytes(node.birdPid).toFixed(1)} MB`,
    );
}
