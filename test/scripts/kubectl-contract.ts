/**
 * kubectl-contract: requests and kubectl sessions, carried out with the API server that KUBECONFIG names and held against what Kubernetes
 * answered to the same: the recording beside this file. `KUBECONFIG=… bun test/scripts/kubectl-contract.ts [--record] [--exact] [--kubectl PATH]`.
 *
 * The embedded API may differ where `contract/differences.ts` says so. `--exact` allows no difference: a real kube-apiserver must answer as
 * recorded. `--record` writes the recording anew, of kubectl's output that of this version. Ends with 1 when anything differs that must not. Works in namespaces and kinds of its own.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { compareRecords, isKubectl, type Recording } from "./contract/compare.ts";
import { INTENDED } from "./contract/differences.ts";
import { exchangeAll } from "./contract/exchanges/all.ts";
import { at, Recorder } from "./contract/recorder.ts";
import { ApiServer } from "./contract/server.ts";

const RECORDING = new URL("./recorded-v1.34.json", import.meta.url).pathname;

/** One exchange a line, by name, so that a change shows as the exchanges it concerns. */
function formatRecording(recording: Recording): string {
  const lines = (exchanges: object): string =>
    Object.entries(exchanges)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, exchange]) => `${JSON.stringify(name)}: ${JSON.stringify(exchange)}`)
      .join(",\n");
  const clients = Object.entries(recording.kubectl).map(
    ([version, exchanges]) => `${JSON.stringify(version)}: {\n${lines(exchanges)}\n}`,
  );
  return `{"server": ${JSON.stringify(recording.server)}, "plain": {\n${lines(recording.plain)}\n}, "kubectl": {\n${clients.join(",\n")}\n}}\n`;
}

/** Puts the records into the recording, beside what other versions of kubectl said. */
async function record(recorder: Recorder, kubectl: string): Promise<void> {
  const version = await recorder.send("GET", "/version");
  const before = existsSync(RECORDING) ? (JSON.parse(readFileSync(RECORDING, "utf8")) as Recording) : undefined;
  const all = [...recorder.records];
  const said = { ...before?.kubectl, [kubectl]: Object.fromEntries(all.filter(([name]) => isKubectl(name))) };
  const clients = Object.entries(said).sort(([a], [b]) => Bun.semver.order(b, a));
  const recording = {
    server: String(version.object["gitVersion"]),
    plain: Object.fromEntries(all.filter(([name]) => !isKubectl(name))),
    kubectl: Object.fromEntries(clients),
  };
  writeFileSync(RECORDING, formatRecording(recording));
  console.log(`${all.length} exchanges recorded, of kubectl ${kubectl}`);
}

/** `v1.32.4` of `v1.32.4-dispatcher`. */
async function clientVersion(recorder: Recorder): Promise<string> {
  const client: unknown = JSON.parse((await recorder.run(["version", "--client", "-o", "json"])).stdout);
  return /^v\d+\.\d+\.\d+/.exec(String(at(client, "clientVersion", "gitVersion")))?.[0] ?? "unknown";
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
  const recorder = new Recorder(new ApiServer(kubeconfig), {
    kubectl: optionOf(args, "--kubectl") ?? "kubectl",
    environment: process.env,
  });
  await exchangeAll(recorder);
  const kubectl = await clientVersion(recorder);
  if (args.includes("--record")) {
    await record(recorder, kubectl);
    return 0;
  }
  const recording = JSON.parse(readFileSync(RECORDING, "utf8")) as Recording;
  const { compared, notCompared, differing, intended, faults } = compareRecords(
    recording,
    recorder.records,
    kubectl,
    args.includes("--exact") ? [] : INTENDED,
  );
  for (const fault of faults) console.log(`DIFFERS ${fault}`);
  const limits = notCompared === 0 ? "" : ` (${notCompared} more not: kubectl ${kubectl} is not recorded)`;
  for (const { what, exchanges } of intended) console.log(`differ as intended in ${what}: ${exchanges.join("; ")}`);
  console.log(
    `${compared} exchanges compared with Kubernetes ${recording.server}${limits}, ${differing} differ as intended, ${faults.length} differences are not intended`,
  );
  return faults.length === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
