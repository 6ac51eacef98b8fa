/**
 * kubectl-contract: requests and kubectl sessions, carried out with the API server that KUBECONFIG names and held against what Kubernetes
 * answered to the same: the recording beside this file. `KUBECONFIG=… bun test/scripts/kubectl-contract.ts [--record] [--exact] [--kubectl PATH]`.
 *
 * The embedded API may differ where `contract/differences.ts` says so. `--exact` allows no difference: a real kube-apiserver must answer as
 * recorded. `--record` writes the recording anew. Ends with 1 when anything differs that must not. Works in namespaces and kinds of its own.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { compareRecords, type Recording } from "./contract/compare.ts";
import { INTENDED } from "./contract/differences.ts";
import { exchangeAll } from "./contract/exchanges/all.ts";
import { at, Recorder } from "./contract/recorder.ts";
import { ApiServer } from "./contract/server.ts";

export const RECORDING = new URL("./recorded-v1.34.json", import.meta.url).pathname;

/** One exchange a line, so that a change shows as the exchanges it concerns. */
function formatRecording(recording: Recording): string {
  const lines = Object.entries(recording.exchanges).map(([name, exchange]) => `${JSON.stringify(name)}: ${JSON.stringify(exchange)}`);
  return `{"server": ${JSON.stringify(recording.server)}, "kubectl": ${JSON.stringify(recording.kubectl)}, "exchanges": {\n${lines.join(",\n")}\n}}\n`;
}

function optionOf(args: readonly string[], name: string): string | undefined {
  const index = args.indexOf(name);
  return index < 0 ? undefined : args[index + 1];
}

async function main(args: readonly string[]): Promise<number> {
  const kubeconfig = process.env["KUBECONFIG"];
  if (kubeconfig === undefined) {
    console.error("KUBECONFIG must name the kubeconfig of an API server");
    return 2;
  }
  const recorder = new Recorder(new ApiServer(kubeconfig), { kubectl: optionOf(args, "--kubectl") ?? "kubectl", environment: process.env });
  await exchangeAll(recorder);
  const client: unknown = JSON.parse((await recorder.run(["version", "--client", "-o", "json"])).stdout);
  const kubectl = String(at(client, "clientVersion", "gitVersion"));
  if (args.includes("--record")) {
    const version = await recorder.send("GET", "/version");
    const recording = { server: String(version.object["gitVersion"]), kubectl, exchanges: Object.fromEntries(recorder.records) };
    writeFileSync(RECORDING, formatRecording(recording));
    console.log(`${recorder.records.size} exchanges recorded`);
    return 0;
  }
  const recording = JSON.parse(readFileSync(RECORDING, "utf8")) as Recording;
  const { compared, byExitCodeAlone, differing, intended, faults } = compareRecords(recording, recorder.records, kubectl, args.includes("--exact") ? [] : INTENDED);
  for (const fault of faults) console.log(`DIFFERS ${fault}`);
  const limits = byExitCodeAlone === 0 ? "" : ` (${byExitCodeAlone} by exit code alone: kubectl is ${kubectl}, not ${recording.kubectl})`;
  for (const { what, exchanges } of intended) console.log(`differ as intended in ${what}: ${exchanges.join("; ")}`);
  console.log(`${compared} exchanges compared with Kubernetes ${recording.server}${limits}, ${differing} differ as intended, ${faults.length} differences are not intended`);
  return faults.length === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
