/** calicoctl: the product's own command line on the datastore of a lab without Kubernetes, as its first host runs it. */
import { dirname } from "node:path";
import { nodeExecutable } from "./executables.ts";
import { inNetns, type Layout } from "./layout.ts";
import { type Output, tryRun } from "./run.ts";

/** Of a lab: a CalicoAPIConfig. */
export function calicoctlConfig(layout: Layout): string {
  return `${layout.directory}/calicoctl.cfg`;
}

/** Runs it with these arguments; an answer takes a few seconds at most. */
export function openCalicoctl(layout: Layout): (args: readonly string[], input?: string) => Output {
  const program = `${dirname(nodeExecutable())}/calicoctl`;
  const netns = layout.nodes[0]?.netnsPath ?? "";
  return (args, input) =>
    tryRun(
      inNetns(netns, ["timeout", "20", program, ...args, "-c", calicoctlConfig(layout), "--allow-version-mismatch"]),
      input,
    );
}
