import { describe, expect, test } from "bun:test";
import type { Sys } from "../../src/host/sys.ts";
import { KernelError } from "../../src/kernel/errno.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { PodNetwork, type PodResult } from "../../src/podnet/podnet.ts";
import type { PodRequest } from "../../src/podnet/request.ts";
import { type Kernel, type Namespace, onBothKernels, REAL } from "./fixture.ts";

const addr = (text: string) => unwrap(parseAddr(text));
const MAC = "ee:ee:ee:ee:ee:ee";

function requestFor(pod: Namespace, number: number): PodRequest {
  const addresses = [addr(`10.65.0.${number}`), addr(`fd00:65::${number}`)];
  return { hostInterface: `calitest${number}`, podInterface: "eth0", netns: pod.path, addresses, mtuBytes: 1450 };
}

/** As the routes driver, which alone makes the node's routes to its pods. */
class RoutedNetwork extends PodNetwork {
  readonly #node: Namespace;

  constructor(sys: Sys, node: Namespace) {
    super(sys);
    this.#node = node;
  }

  override add(request: PodRequest): PodResult {
    const result = super.add(request);
    for (const each of request.addresses) {
      const family = each.includes(":") ? "-6" : "-4";
      const words = ["route", "replace", each, "dev", request.hostInterface, "proto", "80"];
      this.#node.run(["ip", family, ...words, ...(family === "-4" ? ["scope", "link"] : [])]);
    }
    return result;
  }
}

/** A node with forwarding on, as the daemon leaves it; `run` is in its namespace. */
function onNode(
  run: (node: Namespace, a: Namespace, b: Namespace, network: PodNetwork, host: RouteClient) => void,
  { sys, withNamespaces }: Kernel = REAL,
): void {
  withNamespaces(["node", "a", "b"], (node, a, b) => {
    node.enter(() => {
      writeSysctl(sys, "net/ipv4/ip_forward", "1");
      writeSysctl(sys, "net/ipv6/conf/all/forwarding", "1");
      const network = new RoutedNetwork(sys, node);
      const host = new RouteClient(sys);
      try {
        run(node, a, b, network, host);
      } finally {
        network.close();
        host.close();
      }
    });
  });
}

test("two pods of one node reach each other and the node, in both families", () => {
  onNode((node, a, b, network) => {
    for (const own of ["192.168.7.1/32", "fd00:7::1/128"]) node.run(["ip", "address", "add", own, "dev", "lo"]);
    const { mac } = network.add(requestFor(a, 1));
    network.add(requestFor(b, 2));
    expect(a.run(["ip", "-br", "link", "show", "eth0"])).toContain(mac);
    expect(node.run(["ip", "-br", "link", "show", "calitest1"])).toContain(MAC);
    a.run(["ping", "-c", "1", "-W", "2", "10.65.0.2"]);
    a.run(["ping", "-c", "1", "-W", "2", "fd00:65::2"]);
    b.run(["ping", "-c", "1", "-W", "2", "fd00:65::1"]);
    node.run(["ping", "-c", "1", "-W", "2", "10.65.0.1"]);
    node.run(["ping", "-c", "1", "-W", "2", "fd00:65::1"]);
    expect(network.check(requestFor(a, 1))).toEqual([]);
    expect(network.inspect(requestFor(a, 1))).toEqual({ mac });
  });
});

onBothKernels((kernel) => {
  test("a chosen MAC is the pod's, and IPv6 is switched on in a namespace that has it off", () => {
    onNode((_node, a, _b, network) => {
      a.enter(() => writeSysctl(kernel.sys, "net/ipv6/conf/all/disable_ipv6", "1"));
      a.enter(() => writeSysctl(kernel.sys, "net/ipv6/conf/default/disable_ipv6", "1"));
      const request = { ...requestFor(a, 1), mac: "02:00:00:00:00:01" };
      expect(network.add(request)).toEqual({ mac: "02:00:00:00:00:01" });
      expect(network.check(request)).toEqual([]);
    }, kernel);
  });

  test("each family alone", () => {
    onNode((_node, a, b, network) => {
      const only4 = { ...requestFor(a, 1), addresses: [addr("10.65.0.1")] };
      const only6 = { ...requestFor(b, 2), addresses: [addr("fd00:65::2")] };
      network.add(only4);
      network.add(only6);
      expect([...network.check(only4), ...network.check(only6)]).toEqual([]);
      expect(a.run(["ip", "-6", "route", "show", "default"])).toBe("");
      expect(b.run(["ip", "-4", "route", "show", "default"])).toBe("");
    }, kernel);
  });

  test("add replaces a stale pair of the same name, and may be repeated", () => {
    onNode((_node, a, b, network) => {
      network.add({ ...requestFor(b, 1), addresses: [addr("10.65.0.99")] });
      network.add(requestFor(a, 1));
      network.add(requestFor(a, 1));
      expect(network.check(requestFor(a, 1))).toEqual([]);
      expect(b.enter(() => new RouteClient(kernel.sys).linkByName("eth0"))).toBeUndefined();
    }, kernel);
  });

  test("a failed add leaves nothing behind", () => {
    onNode((node, a, b, network, host) => {
      network.add(requestFor(b, 2));
      const before = node.run(["ip", "route"]) + node.run(["ip", "-6", "route"]);
      // One address twice: refused late, after the pair was made.
      const twice = { ...requestFor(a, 1), addresses: [addr("10.65.0.1"), addr("10.65.0.1")] };
      expect(() => network.add(twice)).toThrow("Cannot add address 10.65.0.1/32");
      expect(a.run(["ip", "-br", "link"])).not.toContain("eth0");
      // The pod's own interface name is taken: refused by the first request.
      a.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
      expect(() => network.add(requestFor(a, 1))).toThrow(KernelError);
      expect(host.linkByName("calitest1")).toBeUndefined();
      expect(node.run(["ip", "route"]) + node.run(["ip", "-6", "route"])).toBe(before);
      expect(() => network.add({ ...requestFor(a, 1), netns: "/var/run/netns/none" })).toThrow("ENOENT");
      expect(() => network.add({ ...requestFor(a, 1), netns: "/dev/null" })).toThrow(KernelError);
      expect(host.linkByName("calitest1")).toBeUndefined();
    }, kernel);
  });

  test("remove unroutes and closes at once, may be repeated, and sweep deletes the pairs", () => {
    onNode((node, a, b, network, host) => {
      network.add(requestFor(a, 1));
      network.add(requestFor(b, 2));
      const request = requestFor(a, 1);
      network.remove(request);
      network.remove(request);
      expect(host.routeTo(addr("10.65.0.1"))).toBeUndefined();
      expect(host.routeTo(addr("fd00:65::1"))).toBeUndefined();
      expect(host.linkByName("calitest1")?.up).toBe(false);
      network.sweep();
      expect(host.linkByName("calitest1")).toBeUndefined();
      expect(network.check(requestFor(b, 2))).toEqual([]);
      network.sweep(["calitest2", "calinone"]);
      expect(host.linkByName("calitest2")).toBeUndefined();
      network.remove(request);
      expect(node.run(["ip", "route"])).toMatch(
        /^169\.254\.1\.1 dev caligateway proto static scope link metric 4294967295[^\n]*\n$/,
      );
    }, kernel);
  });

  test("the name of a removed pod may be used again before the sweep, which then spares it", () => {
    onNode((_node, a, b, network) => {
      network.add(requestFor(a, 1));
      network.remove(requestFor(a, 1));
      network.add(requestFor(b, 1));
      network.sweep();
      expect(network.check(requestFor(b, 1))).toEqual([]);
    }, kernel);
  });

  test("check names each difference, on both sides", () => {
    onNode((node, a, _b, network) => {
      const request = requestFor(a, 1);
      network.add(request);
      const differencesAfter = (where: Namespace, ...command: string[]): readonly string[] => {
        where.run(command);
        const found = network.check(request);
        network.add(request);
        return found;
      };
      expect(differencesAfter(node, "ip", "route", "delete", "10.65.0.1")).toEqual([
        "node's route to 10.65.0.1 is missing, must lead to calitest1",
      ]);
      expect(differencesAfter(node, "ip", "-6", "route", "delete", "fd00:65::1")).toEqual([
        "node's route to fd00:65::1 is missing, must lead to calitest1",
      ]);
      expect(differencesAfter(node, "ip", "link", "set", "calitest1", "address", "02:00:00:00:00:09")).toContain(
        `MAC of calitest1 is 02:00:00:00:00:09, must be ${MAC}`,
      );
      expect(differencesAfter(node, "sysctl", "-w", "net.ipv4.conf.calitest1.proxy_arp=0")).toEqual([
        "IPv4 setting proxy_arp of calitest1 is 0, must be 1",
      ]);
      expect(differencesAfter(node, "ip", "-6", "address", "flush", "dev", "calitest1")).toContain(
        "address fe80::ecee:eeff:feee:eeee of calitest1 is missing, must be present",
      );
      expect(differencesAfter(a, "ip", "address", "delete", "fd00:65::1/128", "dev", "eth0")).toEqual([
        "address fd00:65::1 is missing on eth0 of the pod",
      ]);
      expect(differencesAfter(a, "ip", "route", "delete", "default")).toEqual([
        expect.stringContaining("route 0.0.0.0/0 via 169.254.1.1 dev"),
      ]);
      expect(differencesAfter(a, "ip", "-6", "route", "delete", "default")).toEqual([
        expect.stringContaining("route ::/0 via fe80::ecee:eeff:feee:eeee dev"),
      ]);
      expect(differencesAfter(a, "ip", "link", "set", "eth0", "mtu", "1400")).toEqual([
        "MTU of eth0 of the pod is 1400, must be 1450",
      ]);
      expect(differencesAfter(node, "ip", "link", "delete", "calitest1")).toEqual([
        "interface calitest1 does not exist on the node",
        "interface eth0 does not exist in the pod",
      ]);
      expect(network.check({ ...request, netns: "/var/run/netns/none" })).toEqual([
        expect.stringContaining('network namespace "/var/run/netns/none" does not exist: ENOENT'),
      ]);
    }, kernel);
  });
});

describe("on a node without a default route, the gateways answer a pod that", () => {
  const restore6 = [
    ["ip", "address", "replace", "fd00:65::1/128", "dev", "eth0", "nodad"],
    ["ip", "-6", "route", "replace", "default", "via", "fe80::ecee:eeff:feee:eeee", "dev", "eth0"],
  ];
  const restore4 = [
    ["ip", "route", "replace", "169.254.1.1", "dev", "eth0", "scope", "link"],
    ["ip", "route", "replace", "default", "via", "169.254.1.1", "dev", "eth0"],
  ];
  const cases: readonly (readonly [string, readonly (readonly string[])[]])[] = [
    ["has lost its neighbours", []],
    ["has another MAC", [["ip", "link", "set", "eth0", "address", "02:00:00:00:00:77"]]],
    [
      "set its link down and up",
      [["ip", "link", "set", "eth0", "down"], ["ip", "link", "set", "eth0", "up"], ...restore6, ...restore4],
    ],
    [
      "set its link down, changed its MAC and set it up",
      [
        ["ip", "link", "set", "eth0", "down"],
        ["ip", "link", "set", "eth0", "address", "02:00:00:00:00:78"],
        ["ip", "link", "set", "eth0", "up"],
        ...restore6,
        ...restore4,
      ],
    ],
  ];
  for (const [name, commands] of cases) {
    test(name, () => {
      onNode((node, a, b, network) => {
        expect(node.run(["ip", "route", "show", "default"]) + node.run(["ip", "-6", "route", "show", "default"])).toBe(
          "",
        );
        network.add(requestFor(a, 1));
        network.add(requestFor(b, 2));
        for (const command of commands) a.run(command);
        for (const family of ["-4", "-6"]) a.run(["ip", family, "neigh", "flush", "nud", "permanent", "dev", "eth0"]);
        expect(a.run(["ip", "neigh", "show", "nud", "permanent"])).toBe("");
        for (const [target, gateway] of [
          ["10.65.0.2", "169.254.1.1"],
          ["fd00:65::2", "fe80::ecee:eeff:feee:eeee"],
        ] as const) {
          a.run(["ping", "-c", "1", "-W", "3", target]);
          expect(a.run(["ip", "neigh", "show", gateway])).toContain(`lladdr ${MAC}`);
        }
      });
    });
  }
});

test("whoever sends to the gateway itself gets no answer, and the node does not forward it in circles", () => {
  onNode((node, a, _b, network) => {
    network.add(requestFor(a, 1));
    const forwarded = (): number => {
      const [names = "", values = ""] = node
        .run(["cat", "/proc/net/snmp"])
        .split("\n")
        .filter((line) => line.startsWith("Ip:"));
      return Number(values.split(" ")[names.split(" ").indexOf("ForwDatagrams")]);
    };
    const before = forwarded();
    expect(() => a.run(["ping", "-c", "1", "-W", "1", "-t", "200", "169.254.1.1"])).toThrow();
    expect(forwarded() - before).toBeLessThan(3);
  });
});

test("the gateway's route is made anew when it is gone, and leaves one that the node has to itself", () => {
  onNode((node, a, _b, network, host) => {
    network.add(requestFor(a, 1));
    node.run(["ip", "link", "delete", "caligateway"]);
    network.sweep();
    expect(node.run(["ip", "route", "show", "169.254.1.1"])).toContain("dev caligateway");
    // A node that is a pod of another cluster.
    node.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "other-end"]);
    for (const end of ["uplink", "other-end"]) node.run(["ip", "link", "set", end, "up"]);
    node.run(["ip", "route", "add", "169.254.1.1", "dev", "uplink", "scope", "link"]);
    network.sweep();
    expect(host.routeTo(addr("169.254.1.1"))?.interfaceIndex).toBe(host.linkByName("uplink")?.index);
    a.run(["ip", "neigh", "flush", "nud", "permanent", "dev", "eth0"]);
    network.add(requestFor(a, 1));
    a.run(["ip", "neigh", "flush", "nud", "permanent", "dev", "eth0"]);
    expect(() => a.run(["ping", "-c", "1", "-W", "1", "10.9.9.9"])).toThrow();
    expect(a.run(["ip", "neigh", "show", "169.254.1.1"])).toContain(`lladdr ${MAC}`);
  });
});
