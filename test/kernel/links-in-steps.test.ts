/** All links of a namespace, a datagram of the kernel's answer a step: the same as in one call, of one moment, and whoever stops half-way leaves nothing. */
import { expect, test } from "bun:test";
import { openNamespace } from "../../src/kernel/netns.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { onBothKernels } from "./fixture.ts";

/** More than one datagram has. */
const PAIRS = 60;
const LINKS = 1 + 2 * PAIRS;

onBothKernels(({ name: kernel, sys, withNamespaces }) => {
  /** `others` makes its changes by a socket of its own. */
  function withLinks(run: (client: RouteClient, others: RouteClient, addPair: (name: string) => void) => void): void {
    withNamespaces(["links"], (namespace) => {
      const [client, others] = [
        namespace.enter(() => new RouteClient(sys)),
        namespace.enter(() => new RouteClient(sys)),
      ];
      const own = openNamespace(sys, namespace.path);
      const addPair = (name: string): void =>
        others.createVeth({
          name,
          mac: "ee:ee:ee:ee:ee:ee",
          mtuBytes: 1400,
          up: false,
          peerName: `${name}-peer`,
          peerMac: undefined,
          peerNamespaceFd: own,
        });
      try {
        for (let i = 0; i < PAIRS; i++) addPair(`a${i}`);
        run(client, others, addPair);
      } finally {
        sys.close(own);
        client.close();
        others.close();
      }
    });
  }

  test("they are those that one call lists, and the thread is given back between", () => {
    withLinks((client) => {
      const reading = client.linksInSteps();
      let steps = 0;
      let step = reading.next();
      for (; step.done !== true; step = reading.next()) steps++;
      expect(step.value).toEqual(client.links());
      expect(step.value.length).toBe(LINKS);
      expect(steps).toBeGreaterThan(1);
    });
  });

  // The model does not say that links changed within a dump.
  test.if(kernel === "real")("they are of one moment, whatever comes or goes meanwhile", () => {
    withLinks((client, others, addPair) => {
      const reading = client.linksInSteps();
      expect(reading.next().done).toBe(false);
      others.deleteLink(others.linkByName("a0")?.index ?? 0);
      addPair("late");
      let step = reading.next();
      while (step.done !== true) step = reading.next();
      const names = step.value.map(({ name }) => name);
      expect(names.toSorted()).toEqual(
        client
          .links()
          .map(({ name }) => name)
          .toSorted(),
      );
      expect([names.includes("late"), names.includes("a0")]).toEqual([true, false]);
    });
  });

  test("nobody has to read them to the end before the next question", () => {
    withLinks((client) => {
      expect(client.linksInSteps().next().done).toBe(false);
      expect(client.linkByName("a1")?.name).toBe("a1");
      expect(client.links().length).toBe(LINKS);
    });
  });
});
