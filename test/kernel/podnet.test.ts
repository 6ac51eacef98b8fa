import { expect, test } from "bun:test";
import { KernelError } from "../../src/kernel/errno.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { PodNetwork, type PodRequest } from "../../src/podnet/podnet.ts";
import { type Namespace, sys, withNamespaces } from "./fixture.ts";

const addr = (text: string) => unwrap(parseAddr(text));
const MAC = "ee:ee:ee:ee:ee:ee";

function requestFor(pod: Namespace, number: number): PodRequest {
  const addresses = [addr(`10.65.0.${number}`), addr(`fd00:65::${number}`)];
  return { hostInterface: `calitest${number}`, podInterface: "eth0", netns: pod.path, addresses, mtuBytes: 1450 };
}

/** A node with forwarding on, as the daemon leaves it; `run` is in its namespace. */
function onNode(run: (node: Namespace, a: Namespace, b: Namespace, network: PodNetwork, host: RouteClient) => void): void {
  withNamespaces(["node", "a", "b"], (node, a, b) => {
    node.enter(() => {
      writeSysctl(sys, "net/ipv4/ip_forward", "1");
      writeSysctl(sys, "net/ipv6/conf/all/forwarding", "1");
      const network = new PodNetwork(sys);
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

test("a chosen MAC is the pod's, and IPv6 is switched on in a namespace that has it off", () => {
  onNode((_node, a, _b, network) => {
    a.enter(() => writeSysctl(sys, "net/ipv6/conf/all/disable_ipv6", "1"));
    a.enter(() => writeSysctl(sys, "net/ipv6/conf/default/disable_ipv6", "1"));
    const request = { ...requestFor(a, 1), mac: "02:00:00:00:00:01" };
    expect(network.add(request)).toEqual({ mac: "02:00:00:00:00:01" });
    expect(network.check(request)).toEqual([]);
  });
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
  });
});

test("add replaces a stale pair of the same name, and may be repeated", () => {
  onNode((_node, a, b, network) => {
    network.add({ ...requestFor(b, 1), addresses: [addr("10.65.0.99")] });
    network.add(requestFor(a, 1));
    network.add(requestFor(a, 1));
    expect(network.check(requestFor(a, 1))).toEqual([]);
    expect(b.enter(() => new RouteClient(sys).linkByName("eth0"))).toBeUndefined();
  });
});

test("a failed add leaves nothing behind", () => {
  onNode((node, a, b, network, host) => {
    network.add(requestFor(b, 2));
    const before = node.run(["ip", "route"]) + node.run(["ip", "-6", "route"]);
    // The second address is another pod's: refused late, after everything else was made.
    const taken = { ...requestFor(a, 1), addresses: [addr("10.65.0.1"), addr("fd00:65::2")] };
    expect(() => network.add(taken)).toThrow("Cannot add route fd00:65::2/128 dev");
    // The pod's own interface name is taken: refused by the first request.
    a.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
    expect(() => network.add(requestFor(a, 1))).toThrow(KernelError);
    expect(host.linkByName("calitest1")).toBeUndefined();
    expect(node.run(["ip", "route"]) + node.run(["ip", "-6", "route"])).toBe(before);
    expect(() => network.add({ ...requestFor(a, 1), netns: "/var/run/netns/none" })).toThrow("ENOENT");
    expect(() => network.add({ ...requestFor(a, 1), netns: "/dev/null" })).toThrow(KernelError);
    expect(host.linkByName("calitest1")).toBeUndefined();
  });
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
    expect(node.run(["ip", "route"])).toBe("");
  });
});

test("the name of a removed pod may be used again before the sweep, which then spares it", () => {
  onNode((_node, a, b, network) => {
    network.add(requestFor(a, 1));
    network.remove(requestFor(a, 1));
    network.add(requestFor(b, 1));
    network.sweep();
    expect(network.check(requestFor(b, 1))).toEqual([]);
  });
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
    expect(differencesAfter(node, "ip", "route", "delete", "10.65.0.1")).toEqual(["node's route to 10.65.0.1 is missing, must lead to calitest1"]);
    expect(differencesAfter(node, "ip", "-6", "route", "delete", "fd00:65::1")).toEqual(["node's route to fd00:65::1 is missing, must lead to calitest1"]);
    expect(differencesAfter(node, "ip", "link", "set", "calitest1", "address", "02:00:00:00:00:09")).toContain(`MAC of calitest1 is 02:00:00:00:00:09, must be ${MAC}`);
    expect(differencesAfter(node, "sysctl", "-w", "net.ipv4.conf.calitest1.rp_filter=0")).toEqual(["IPv4 setting rp_filter of calitest1 is 0, must be 1"]);
    expect(differencesAfter(node, "ip", "-6", "address", "flush", "dev", "calitest1")).toContain("address fe80::ecee:eeff:feee:eeee of calitest1 is missing, must be present");
    expect(differencesAfter(a, "ip", "address", "delete", "fd00:65::1/128", "dev", "eth0")).toEqual(["address fd00:65::1 is missing on eth0 of the pod"]);
    expect(differencesAfter(a, "ip", "route", "delete", "default")).toEqual([expect.stringContaining("route 0.0.0.0/0 via 169.254.1.1 dev")]);
    expect(differencesAfter(a, "ip", "-6", "route", "delete", "default")).toEqual([expect.stringContaining("route ::/0 via fe80::ecee:eeff:feee:eeee dev")]);
    expect(differencesAfter(a, "ip", "link", "set", "eth0", "mtu", "1400")).toEqual(["MTU of eth0 of the pod is 1400, must be 1450"]);
    expect(differencesAfter(node, "ip", "link", "delete", "calitest1")).toEqual(["interface calitest1 does not exist on the node", "interface eth0 does not exist in the pod"]);
    expect(network.check({ ...request, netns: "/var/run/netns/none" })).toEqual([expect.stringContaining('network namespace "/var/run/netns/none" does not exist: ENOENT')]);
  });
});
