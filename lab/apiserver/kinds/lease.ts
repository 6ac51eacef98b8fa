/** Lease: who leads among several processes, and until when. */
import { fieldAt, stringAt } from "../../../src/model/schema/json.ts";
import { builtIn } from "./built-in.ts";
import { column } from "./columns.ts";

export const LEASE = builtIn({
  kind: "Lease",
  plural: "leases",
  group: "coordination.k8s.io",
  shape: "coordination.v1.Lease",
  namespaced: true,
  middle: [column("Holder", "Who leads", (lease) => stringAt(fieldAt(lease, "spec", "holderIdentity")))],
});
