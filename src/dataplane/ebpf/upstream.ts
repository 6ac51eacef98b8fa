/**
 * upstream: what upstream's eBPF dataplane has left: classifiers by the names that it gives its programs, and the maps that it pins. What has another
 * name is not touched. Source: felix/bpf/tc/attach.go, felix/bpf/maps/maps.go.
 */
import type { Files } from "../../host/files.ts";
import type { Sys } from "../../host/sys.ts";
import { Attachments } from "../../kernel/bpf/attach.ts";
import { RouteClient } from "../../kernel/route/client.ts";
import type { Steps } from "../driver.ts";
import { PLACE } from "./interfaces.ts";
import { removeNamed } from "./pins.ts";

/** `cali_tc_preambl…`, before that `calico_from_workload_ep…`. Ours have a space after `calico`. */
const PROGRAM = /^(cali_tc_preambl|calico_(from|to)_)/;
/** `cali_v4_ct3`. */
const MAP = /^cali_/;

/** Throws KernelError. */
export function* removeUpstreamPrograms(sys: Sys): Steps {
  const routes = new RouteClient(sys);
  const attachments = new Attachments(sys, PLACE);
  try {
    for (const { index } of yield* routes.linksInSteps()) {
      attachments.detachNamed(index, (name) => PROGRAM.test(name));
      yield;
    }
  } finally {
    attachments.close();
    routes.close();
  }
}

/** Below a bpffs. Rejects with KernelError. */
export async function removeUpstreamPins(files: Pick<Files, "list" | "remove">, bpffs: string): Promise<void> {
  await removeNamed(files, `${bpffs}/tc/globals`, (name) => MAP.test(name));
}
