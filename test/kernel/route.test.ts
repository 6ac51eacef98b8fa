import { describe, expect, test } from "bun:test";
import { EEXIST, ESRCH, KernelError } from "../../src/kernel/errno.ts";
import { openNamespace, withNamespace } from "../../src/kernel/netns.ts";
import {
  type KernelRoute,
  MAIN_TABLE,
  RouteClient,
  SCOPE_LINK,
  SCOPE_UNIVERSE,
} from "../../src/kernel/route/client.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { type Namespace, onBothKernels } from "./fixture.ts";

const addr = (text: string) => unwrap(parseAddr(text));
const prefix = (text: string) => unwrap(parsePrefix(text));
const OURS = 80;
const NAMES = { host: "cali1", pod: "eth0" };

onBothKernels(({ sys, withNamespaces }) => {
  /** Two namespaces with a veth pair, both ends up; the host end's index. */
  function withPair(
    run: (host: RouteClient, pod: RouteClient, index: number, podIndex: number, hostNamespace: Namespace) => void,
  ): void {
    withNamespaces(["host", "pod"], (a, b) => {
      const host = a.enter(() => new RouteClient(sys));
      const pod = b.enter(() => new RouteClient(sys));
      const fd = openNamespace(sys, b.path);
      try {
        host.createVeth({
          name: NAMES.host,
          mac: "ee:ee:ee:ee:ee:ee",
          mtuBytes: 1400,
          up: true,
          peerName: NAMES.pod,
          peerMac: "02:00:00:00:00:01",
          peerNamespaceFd: fd,
        });
        const [own, other] = [host.linkByName(NAMES.host), pod.linkByName(NAMES.pod)];
        if (own === undefined || other === undefined) throw new Error("no pair");
        pod.setLinkUp(other.index);
        run(host, pod, own.index, other.index, a);
      } finally {
        sys.close(fd);
        host.close();
        pod.close();
      }
    });
  }

  describe("links", () => {
    test("one request makes both ends, the other straight in its namespace", () => {
      withPair((host, pod, index, podIndex) => {
        expect(host.linkByName("cali1")).toEqual({
          index,
          name: "cali1",
          kind: "veth",
          mac: "ee:ee:ee:ee:ee:ee",
          mtuBytes: 1400,
          up: true,
          group: 0,
          peerIndex: podIndex,
          ipv4: expect.anything(),
          ipv6: expect.anything(),
        });
        expect(pod.linkByName("eth0")).toMatchObject({
          mac: "02:00:00:00:00:01",
          mtuBytes: 1400,
          up: true,
          peerIndex: index,
        });
        expect(host.linkByName("eth0")).toBeUndefined();
        expect(
          host
            .links()
            .map(({ name }) => name)
            .sort(),
        ).toEqual(["cali1", "lo"]);
        expect(host.writes).toBe(1);
      });
    });

    test("state, MAC, name and group can be changed; a group is deleted together", () => {
      withPair((host, pod, index) => {
        host.setLinkMac(index, "02:00:00:00:00:99");
        host.setLinkGroup(index, 7, { down: true });
        expect(host.linkByName("cali1")).toMatchObject({ mac: "02:00:00:00:00:99", group: 7, up: false });
        host.renameLink(index, "cali2");
        host.setLinkUp(index);
        expect(host.linkByName("cali2")).toMatchObject({ up: true });
        host.setLinkDown(index);
        host.deleteLinkGroup(8);
        expect(host.linkByName("cali2")).toMatchObject({ up: false });
        host.deleteLinkGroup(7);
        expect(host.linkByName("cali2")).toBeUndefined();
        expect(pod.linkByName("eth0")).toBeUndefined();
      });
    });

    test("a taken name is EEXIST and changes nothing", () => {
      withPair((host, pod, index) => {
        const veth = {
          name: "cali1",
          mac: "ee:ee:ee:ee:ee:ee",
          mtuBytes: 1400,
          up: true,
          peerName: "eth1",
          peerMac: undefined,
          peerNamespaceFd: openNamespace(sys, "/proc/self/ns/net"),
        };
        try {
          host.createVeth(veth);
          expect.unreachable();
        } catch (error) {
          expect(error instanceof KernelError ? error.errno : error).toBe(EEXIST);
        } finally {
          sys.close(veth.peerNamespaceFd);
        }
        expect(host.linkByName("cali1")?.index).toBe(index);
        expect(pod.links().length).toBe(2);
      });
    });

    test("settings are those of the interface alone", () => {
      withPair((host, _pod, index, _podIndex, namespace) => {
        host.setSettings(
          index,
          { forwarding: true, proxyArp: true, routeLocalnet: true, rpFilter: 1 },
          { linkLocalFromMac: true },
        );
        for (const setting of ["forwarding", "proxy_arp", "route_localnet", "rp_filter"]) {
          expect(namespace.run(["sysctl", "-n", `net.ipv4.conf.cali1.${setting}`]).trim()).toBe("1");
          expect(namespace.run(["sysctl", "-n", `net.ipv4.conf.lo.${setting}`]).trim()).toBe("0");
        }
        host.setSettings(index, { proxyArp: false });
        expect(
          namespace
            .run(["sysctl", "-n", "net.ipv4.conf.cali1.proxy_arp", "net.ipv4.conf.cali1.forwarding"])
            .split("\n"),
        ).toEqual(["0", "1", ""]);
      });
    });
  });

  describe("addresses and neighbours", () => {
    test("of both families, added, listed, refused twice, and deleted", () => {
      withPair((_host, pod, _index, podIndex) => {
        for (const [text, length] of [
          ["10.0.0.1", 32],
          ["fd00::1", 128],
        ] as const) {
          pod.addAddress(podIndex, addr(text), length, { noDad: true });
          expect(pod.addresses(podIndex)).toContainEqual({
            interfaceIndex: podIndex,
            addr: addr(text),
            prefixLength: length,
            usable: true,
          });
          expect(() => pod.addAddress(podIndex, addr(text), length)).toThrow("EEXIST");
          pod.deleteAddress(podIndex, addr(text), length);
          expect(pod.addresses().map((found) => found.addr)).not.toContain(addr(text));
          expect(() => pod.deleteAddress(podIndex, addr(text), length)).toThrow("EADDRNOTAVAIL");
        }
      });
    });

    test("an address under duplicate detection is not usable yet", () => {
      withPair((_host, pod, _index, podIndex) => {
        pod.addAddress(podIndex, addr("fd00::1"), 128);
        expect(pod.addresses(podIndex).find((found) => found.addr === addr("fd00::1"))?.usable).toBe(false);
      });
    });

    test("permanent neighbours", () => {
      withPair((host, _pod, index) => {
        for (const text of ["10.0.0.1", "fd00::1"]) {
          host.addNeighbor(index, addr(text), "02:00:00:00:00:07", true);
          expect(host.neighbors()).toContainEqual({
            interfaceIndex: index,
            addr: addr(text),
            mac: "02:00:00:00:00:07",
            permanent: true,
          });
          host.addNeighbor(index, addr(text), "02:00:00:00:00:08", true);
          expect(host.neighbors().filter((found) => found.addr === addr(text))).toEqual([
            { interfaceIndex: index, addr: addr(text), mac: "02:00:00:00:00:08", permanent: true },
          ]);
          host.deleteNeighbor(index, addr(text));
          expect(host.neighbors().map((found) => found.addr)).not.toContain(addr(text));
        }
      });
    });
  });

  describe("routes", () => {
    const local = (destination: string, interfaceIndex: number): KernelRoute => {
      const scope = destination.includes(":") ? SCOPE_UNIVERSE : SCOPE_LINK;
      return {
        destination: prefix(destination),
        table: MAIN_TABLE,
        protocol: OURS,
        type: "unicast",
        scope,
        interfaceIndex,
      };
    };
    const blackhole = (destination: string): KernelRoute => ({
      destination: prefix(destination),
      table: MAIN_TABLE,
      protocol: OURS,
      type: "blackhole",
      scope: SCOPE_UNIVERSE,
    });
    const ours = (client: RouteClient): KernelRoute[] =>
      client.routes({ table: MAIN_TABLE }).filter((route) => route.protocol === OURS);

    test("replaced in kind, both ways, both families: always one route", () => {
      withPair((host, _pod, index) => {
        for (const destination of ["10.0.0.1/32", "fd00::1/128"]) {
          for (const wanted of [
            local(destination, index),
            blackhole(destination),
            local(destination, index),
            local(destination, index),
          ]) {
            host.replaceRoute(wanted);
            expect(ours(host)).toEqual([wanted]);
          }
          host.deleteRoute({
            destination: prefix(destination),
            table: MAIN_TABLE,
            protocol: OURS,
            type: "unicast",
            scope: SCOPE_LINK,
          });
          expect(ours(host)).toEqual([]);
        }
      });
    });

    test("add is refused where one is; delete where none is", () => {
      withPair((host, _pod, index) => {
        for (const destination of ["10.0.0.1/32", "fd00::1/128"]) {
          host.addRoute(local(destination, index));
          expect(() => host.addRoute(local(destination, index))).toThrow("EEXIST");
          host.deleteRoute(local(destination, index));
          expect(() => host.deleteRoute(local(destination, index))).toThrow("ESRCH");
        }
        expect(() => host.addRoute({ ...local("10.0.0.0/8", index), gateway: addr("1.2.3.4") })).toThrow(
          "Nexthop has invalid gateway",
        );
        host.addRoute({ ...local("10.0.0.0/8", index), scope: SCOPE_UNIVERSE, gateway: addr("1.2.3.4"), onLink: true });
        expect(ours(host)[0]).toMatchObject({ gateway: addr("1.2.3.4"), onLink: true });
      });
    });

    test("every kind comes back as it was added, in tables small and large", () => {
      withPair((host, pod, index) => {
        for (const own of ["10.9.9.9", "fd00::99"])
          host.addAddress(index, addr(own), own.includes(":") ? 128 : 32, { noDad: true });
        const base = { table: 1000, protocol: OURS, scope: SCOPE_UNIVERSE, type: "unicast" } as const;
        const routes: KernelRoute[] = [
          {
            ...base,
            destination: prefix("0.0.0.0/0"),
            gateway: addr("1.1.1.1"),
            onLink: true,
            interfaceIndex: index,
            metric: 7,
            source: addr("10.9.9.9"),
          },
          {
            ...base,
            destination: prefix("::/0"),
            gateway: addr("fd00::1"),
            onLink: true,
            interfaceIndex: index,
            metric: 7,
            source: addr("fd00::99"),
          },
          { ...base, destination: prefix("10.1.0.0/16"), type: "unreachable" },
          { ...base, destination: prefix("fd01::/64"), type: "unreachable" },
          { ...base, destination: prefix("10.2.0.0/16"), type: "prohibit", table: 77 },
          { ...base, destination: prefix("fd02::/64"), type: "throw", table: 77 },
        ];
        for (const route of routes) host.addRoute(route);
        const found = [...host.routes({ table: 1000 }), ...host.routes({ table: 77 })];
        for (const route of routes) expect(found).toContainEqual(route);
        expect(found.length).toBe(routes.length);
        expect(host.routes({ table: 4242 })).toEqual([]);
        expect(host.routes({ family: 6, table: 1000 }).length).toBe(2);
        expect(pod.routes({ table: 1000 })).toEqual([]);
        for (const route of routes) host.deleteRoute(route);
        expect(host.routes({ table: 1000 })).toEqual([]);
      });
    });

    test("several next hops with weights", () => {
      withPair((host, _pod, index) => {
        for (const own of ["10.9.9.1", "fd00:9::1"])
          host.addAddress(index, addr(own), own.includes(":") ? 64 : 24, { noDad: true });
        for (const [destination, first, second] of [
          ["10.5.0.0/16", "10.9.9.2", "10.9.9.3"],
          ["fd05::/64", "fd00:9::2", "fd00:9::3"],
        ] as const) {
          const nextHops = [
            { interfaceIndex: index, gateway: addr(first), weight: 1 },
            { interfaceIndex: index, gateway: addr(second), weight: 5 },
          ];
          host.addRoute({
            destination: prefix(destination),
            table: MAIN_TABLE,
            protocol: OURS,
            type: "unicast",
            scope: SCOPE_UNIVERSE,
            nextHops,
          });
          expect(ours(host).find((route) => route.destination === prefix(destination))?.nextHops).toEqual(nextHops);
        }
      });
    });

    test("in a batch each change has its own outcome", () => {
      withPair((host, _pod, index) => {
        const writes = host.writes;
        const errors = host.changeRoutes([
          { do: "replace", route: local("10.0.0.1/32", index) },
          { do: "delete", route: local("10.0.0.2/32", index) },
          { do: "replace", route: { ...local("10.0.0.3/32", index), interfaceIndex: 9999 } },
          { do: "replace", route: blackhole("fd00::/64") },
        ]);
        expect(errors.map((error) => error?.errno)).toEqual([undefined, ESRCH, 19, undefined]);
        expect(errors[1]?.message).toBe(`Cannot delete route 10.0.0.2/32 dev ${index}: ESRCH (no such process)`);
        expect(ours(host).map((route) => route.destination)).toEqual([prefix("10.0.0.1/32"), prefix("fd00::/64")]);
        expect(host.writes - writes).toBe(4);
      });
    });

    test("many thousands", () => {
      withPair((host, _pod, index) => {
        const routes = Array.from({ length: 5000 }, (_, i) => local(`10.1.${i >> 8}.${i & 255}/32`, index));
        expect(
          host.changeRoutes(routes.map((route) => ({ do: "replace", route }))).every((error) => error === undefined),
        ).toBe(true);
        expect(new Set(ours(host).map((route) => route.destination))).toEqual(
          new Set(routes.map((route) => route.destination)),
        );
        expect(
          host.changeRoutes(routes.map((route) => ({ do: "delete", route }))).every((error) => error === undefined),
        ).toBe(true);
        expect(ours(host)).toEqual([]);
      });
    });

    test("lookup finds the most specific route, and nothing where it leads nowhere", () => {
      withPair((host, _pod, index) => {
        for (const [block, one, other] of [
          ["10.0.0.0/26", "10.0.0.1", "10.0.0.2"],
          ["fd00::/122", "fd00::1", "fd00::2"],
        ] as const) {
          host.addRoute(blackhole(block));
          host.addRoute(local(`${one}/${one.includes(":") ? 128 : 32}`, index));
          expect(host.routeTo(addr(one))).toMatchObject({ type: "unicast", interfaceIndex: index });
          expect(host.routeTo(addr(other))?.type ?? "none").not.toBe("unicast");
        }
        expect(host.routeTo(addr("192.0.2.1"))).toBeUndefined();
        expect(host.routeTo(addr("2001:db8::1"))).toBeUndefined();
      });
    });

    test("go with the link when it is set down", () => {
      withPair((host, _pod, index) => {
        host.addRoute(local("10.0.0.1/32", index));
        host.addRoute(local("fd00::1/128", index));
        host.setLinkDown(index);
        expect(ours(host)).toEqual([]);
      });
    });
  });

  test("a client stays in the namespace in which it was made", () => {
    withPair((host, _pod, _index, _podIndex, namespace) => {
      const names = host.links().map(({ name }) => name);
      withNamespace(sys, namespace.path, () => expect(host.links().map(({ name }) => name)).toEqual(names));
      withNamespace(sys, "/proc/thread-self/ns/net", () => expect(host.links().map(({ name }) => name)).toEqual(names));
    });
  });
});
