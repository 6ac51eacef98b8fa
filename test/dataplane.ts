/** dataplane: which dataplane the nodes of a test program policy by, as `CALICO_TEST_DATAPLANE` says, and how a node is given one. */

export const DATAPLANES = ["nftables", "iptables-nft", "iptables-legacy", "ebpf"] as const;
export type Dataplane = (typeof DATAPLANES)[number];

/** `iptables-legacy`, or another of them. */
export const DATAPLANE_VARIABLE = "CALICO_TEST_DATAPLANE";

/** Throws for a word that is none of them; undefined: the variable is not set. */
export function givenDataplane(): Dataplane | undefined {
  const given = process.env[DATAPLANE_VARIABLE];
  const found = DATAPLANES.find((dataplane) => dataplane === given);
  if (given !== undefined && found === undefined)
    throw new Error(`${DATAPLANE_VARIABLE} is ${given}, must be one of ${DATAPLANES.join(", ")}`);
  return found;
}

/** In a FelixConfiguration. */
export const DATAPLANE_SPECS: { readonly [D in Dataplane]: Readonly<Record<string, string | boolean>> } = {
  nftables: { nftablesMode: "Enabled" },
  "iptables-nft": { nftablesMode: "Disabled", iptablesBackend: "NFT" },
  "iptables-legacy": { nftablesMode: "Disabled", iptablesBackend: "Legacy" },
  ebpf: { bpfEnabled: true },
};

/** In the daemon's environment. */
export function dataplaneEnvironment(dataplane: Dataplane): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(DATAPLANE_SPECS[dataplane]).map(([field, value]) => [`FELIX_${field.toUpperCase()}`, String(value)]),
  );
}
