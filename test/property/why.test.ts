/** What `calicoctl why` explains, pair by pair and class by class, is what the definition says about each packet in the whole cluster. */
import { expect, test } from "bun:test";
import { formatName } from "../../src/model/key.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { SCTP, TCP, UDP } from "../../src/net/protocol.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { journey } from "../../src/semantics/journey.ts";
import { type Answer, explainer, type Party } from "../../src/verify/explain.ts";
import { randomCluster, randomPackets } from "./clusters.ts";

const CLUSTERS = 150;
const PACKETS = 60;
const FIRST_SEED = 5_000_000;

function isAbout({ traffic }: Answer, { protocol, destinationPort }: FlowPacket): boolean {
  return traffic.some((each) =>
    each === "other"
      ? ![TCP, UDP, SCTP].includes(protocol)
      : destinationPort !== undefined &&
        each.protocol === protocol &&
        each.from <= destinationPort &&
        destinationPort <= each.to,
  );
}

test("every packet has the fate that its class and its pair are given", () => {
  let asked = 0;
  // Even seeds have Kubernetes' policies alone: no others are asked for yet.
  for (let seed = FIRST_SEED; seed < FIRST_SEED + 2 * CLUSTERS; seed += 2) {
    const resources = randomCluster(seed);
    const cluster = clusterOf(resources);
    const explain = explainer(cluster);
    const pods: Party[] = cluster.pods.map(({ key, addresses }) => ({ label: formatName(key), pod: key, addresses }));
    for (const { packet } of randomPackets(resources, PACKETS, seed)) {
      const partiesAt = (addr: FlowPacket["source"]): Party[] => [
        { label: addr, pod: undefined, addresses: [addr] },
        ...pods.filter(({ addresses }) => addresses.includes(addr)),
      ];
      for (const source of partiesAt(packet.source)) {
        for (const destination of partiesAt(packet.destination)) {
          const answer = explain({ source, destination, traffic: undefined }).find(
            (each) => each.source === packet.source && each.destination === packet.destination && isAbout(each, packet),
          );
          const { egress, ingress } = journey(cluster, packet, { source: source.pod, destination: destination.pod });
          expect({ seed, packet, egress: answer?.egress, ingress: answer?.ingress }).toEqual({
            seed,
            packet,
            egress,
            ingress,
          });
          asked++;
        }
      }
    }
  }
  expect(asked).toBeGreaterThan(CLUSTERS * PACKETS);
}, 120_000);
