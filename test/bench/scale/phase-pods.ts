/** phase-pods: ADD and DEL of local pods against Debian's ptp with host-local: interleaved one by one, and 100 at once. */
import { percentile } from "../figures.ts";
import { type PluginCall, runPlugin, runPlugins } from "../plugin.ts";
import type { Bench } from "./bench.ts";
import { addressIn, cniEnvironment } from "./node.ts";
import { LOCAL_PODS } from "./scenario.ts";

const ONE_BY_ONE = 100;
/** Attached at once where nobody measures it. */
const CHUNK = 20;

function ptpCall({ stage }: Bench, command: "ADD" | "DEL", i: number): PluginCall {
  const ipam = { type: "host-local", subnet: "10.200.0.0/22", dataDir: `${stage.directory}/ptp` };
  return {
    command: "/usr/lib/cni/ptp",
    netns: stage.netns("ptp"),
    config: { cniVersion: "1.0.0", name: "bench", type: "ptp", ipam },
    environment: cniEnvironment(command, `ptp${i}`, stage.netns(`q${i}`), "K8S_POD_NAME=x"),
  };
}

export function makePodNamespaces({ stage }: Bench, withPtp: boolean): void {
  const pods = Array.from({ length: LOCAL_PODS }, (_, i) => i);
  stage.addNamespaces([...pods.map((i) => `p${i}`), ...(withPtp ? ["ptp", ...pods.map((i) => `q${i}`)] : [])]);
}

/** Attaches all local pods without measuring it. Answers the address of the first. */
export async function attachPods({ node }: Bench): Promise<string> {
  let address = "";
  for (let i = 0; i < LOCAL_PODS; i += CHUNK) {
    const runs = await runPlugins(Array.from({ length: CHUNK }, (_, j) => node.call("ADD", i + j)));
    if (i === 0 && runs[0] !== undefined) address = addressIn(runs[0]);
  }
  await node.idle();
  return address;
}

/** Attaches all local pods. Answers the address of the first. */
export async function measureAdds(bench: Bench): Promise<string> {
  const { node, table, size } = bench;
  table.heading(`ADD, exec to exit, at ${size.name}`);
  const ours: number[] = [];
  const ptp: number[] = [];
  let address = "";
  for (let i = 0; i < ONE_BY_ONE; i++) {
    const run = runPlugin(node.call("ADD", i));
    ours.push(run.ms);
    if (i === 0) address = addressIn(run);
    ptp.push(runPlugin(ptpCall(bench, "ADD", i)).ms);
    await node.idle();
  }
  const rest = Array.from({ length: LOCAL_PODS - ONE_BY_ONE }, (_, i) => ONE_BY_ONE + i);
  const oursAtOnce = (await runPlugins(rest.map((i) => node.call("ADD", i)))).map(({ ms }) => ms);
  await node.idle();
  const ptpAtOnce = (await runPlugins(rest.map((i) => ptpCall(bench, "ADD", i)))).map(({ ms }) => ms);
  for (const [name, fraction, aim] of [
    ["p50", 0.5, "1.05x"],
    ["p90", 0.9, undefined],
    ["p99", 0.99, undefined],
  ] as const) {
    const [value, other] = [percentile(ours, fraction), percentile(ptp, fraction)];
    const against = { value: value / other, to: `ptp + host-local (${other.toFixed(1)} ms)` };
    table.add({
      what: `ADD ${name}`,
      unit: "ms",
      values: [value],
      ...(aim === undefined ? {} : { aim }),
      ratio: against,
    });
  }
  table.add({ what: "ADD", unit: "ms", values: ours });
  table.add({ what: "ADD of ptp + host-local", unit: "ms", values: ptp });
  const [last, lastPtp] = [Math.max(...oursAtOnce), Math.max(...ptpAtOnce)];
  table.add({
    what: `${rest.length} ADDs at once, last answer`,
    unit: "ms",
    values: [last],
    aim: "1x",
    ratio: { value: last / lastPtp, to: `ptp + host-local (${lastPtp.toFixed(0)} ms)` },
  });
  return address;
}

/** Detaches the pods that were attached one by one. */
export async function measureDeletes(bench: Bench): Promise<void> {
  const { node, table, size } = bench;
  table.heading(`DEL, exec to exit, at ${size.name}`);
  const ours: number[] = [];
  const ptp: number[] = [];
  for (let i = 0; i < ONE_BY_ONE; i++) {
    ours.push(runPlugin(node.call("DEL", i)).ms);
    ptp.push(runPlugin(ptpCall(bench, "DEL", i)).ms);
    await node.idle();
  }
  for (const [name, fraction] of [
    ["p50", 0.5],
    ["p90", 0.9],
    ["p99", 0.99],
  ] as const) {
    const [value, other] = [percentile(ours, fraction), percentile(ptp, fraction)];
    table.add({
      what: `DEL ${name}`,
      unit: "ms",
      values: [value],
      aim: "0.5x",
      ratio: { value: value / other, to: `ptp + host-local (${other.toFixed(1)} ms)` },
    });
  }
}
