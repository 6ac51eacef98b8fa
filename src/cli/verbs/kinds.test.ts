import { expect, test } from "bun:test";
import { kindOfWord, objectText, SERVED } from "./kinds.ts";

test("every heading has a cell, and no name is of two kinds", () => {
  for (const { name, columns, wide, cells } of SERVED)
    for (const heading of [...columns, ...wide])
      expect([name, heading, cells[heading] === undefined]).toEqual([name, heading, false]);
  const names = SERVED.flatMap((kind) => kind.names);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});

test("names of upstream, of the CRDs and of kubectl, in any case", () => {
  for (const [kind, words] of [
    [
      "NetworkPolicy",
      "networkpolicy NetworkPolicies policy np policies pol pols cnp caliconetworkpolicy CalicoPolicy networkpolicies.projectcalico.org",
    ],
    ["GlobalNetworkPolicy", "globalnetworkpolicy globalnetworkpolicies GNP gnps cgnp"],
    ["StagedNetworkPolicy", "stagednetworkpolicy stagednetworkpolicies stagedpolicy snp stagedpolicies spol spols"],
    ["StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicy stagedglobalnetworkpolicies sgnp sgnps"],
    [
      "StagedKubernetesNetworkPolicy",
      "stagedkubernetesnetworkpolicy stagedkubernetesnetworkpolicies stagedkubernetespolicy sknp stagedkubernetespolicies skpol skpols",
    ],
    ["KubernetesNetworkPolicy", "kubernetesnetworkpolicy knp networkpolicies.networking.k8s.io"],
    ["Tier", "tier tiers"],
    ["NetworkSet", "networkset networksets netset netsets"],
    ["GlobalNetworkSet", "globalnetworkset globalnetworksets gnetsets gns"],
    ["HostEndpoint", "hostendpoint hostendpoints hep heps"],
    ["Profile", "profile profiles pro pros"],
    ["FelixConfiguration", "felixconfiguration felixconfigurations felixconfig felixconfigs"],
    ["IPPool", "ippool ippools ipp ipps pool pools"],
    ["IPReservation", "ipreservation ipreservations reservation reservations"],
    ["IPAMConfiguration", "ipamconfiguration ipamconfigurations ipamconfig ipamconfigs"],
    ["ClusterInformation", "clusterinformation clusterinformations clusterinfo clusterinfos"],
    [
      "KubeControllersConfiguration",
      "kubecontrollersconfiguration kubecontrollersconfigurations kubecontrollersconfig kubecontrollersconfigs kcc kccs",
    ],
    ["Node", "node nodes no nos"],
    ["AdminNetworkPolicy", "adminnetworkpolicy adminnetworkpolicies anp"],
    ["BaselineAdminNetworkPolicy", "baselineadminnetworkpolicy baselineadminnetworkpolicies banp"],
    ["WorkloadEndpoint", "workloadendpoint workloadendpoints wep weps"],
  ] as const)
    for (const word of words.split(" ")) expect([word, kindOfWord(word)?.name]).toEqual([word, kind]);
  expect(kindOfWord("pods")).toBeUndefined();
});

test("objects are named as upstream's messages name them", () => {
  const [policy] = SERVED;
  if (policy === undefined) throw new Error("there is no kind");
  expect(objectText(policy, "shop", "web")).toBe("NetworkPolicy(shop/web)");
  expect(objectText(policy, undefined, "web")).toBe("NetworkPolicy(web)");
});
