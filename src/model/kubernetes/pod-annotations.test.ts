import { expect, test } from "bun:test";
import { formatFieldError } from "../schema/field-error.ts";
import { validatePodAnnotations } from "./pod-annotations.ts";

test.each([
  ["ipAddrs", '["10.0.0.1"]', ""],
  ["ipAddrs", '["10.0.0.1","fd00::1"]', ""],
  ["ipAddrs", "10.0.0.1", "must be a JSON list of addresses"],
  ["ipAddrs", "[1]", "must be a JSON list of addresses"],
  ["ipAddrs", "[]", "must name at least one address"],
  ["ipAddrs", '["10.0.0.256"]', '"10.0.0.256" must be an IPv4 or IPv6 address'],
  ["ipAddrs", '["10.0.0.1","10.0.0.2"]', "must name at most one IPv4 address"],
  ["ipAddrs", '["fd00::1","fd00::2"]', "must name at most one IPv6 address"],
  ["ipv4pools", '["10.0.0.0/16","my-pool"]', ""],
  ["ipv4pools", '["fd00::/64"]', "is an IPv6 range, must be IPv4"],
  ["ipv4pools", '["My_Pool"]', "is neither the name of a pool nor a range"],
  ["ipv6pools", '["fd00::/64"]', ""],
  ["ipv6pools", '["10.0.0.0/33"]', "length is 33, must be 0 to 32"],
  ["ipv6pools", "{}", 'such as ["fd00::/64"]'],
  ["hwAddr", "1a:2b:3c:4d:5e:6f", ""],
  ["hwAddr", "1a:2b:3c:4d:5e", "must be a MAC address"],
  ["hwAddr", "01:2b:3c:4d:5e:6f", "must be a unicast address"],
  ["other", "anything", ""],
])("%s: %s", (name, text, words) => {
  const errors = validatePodAnnotations({ [`cni.projectcalico.org/${name}`]: text })
    .map(formatFieldError)
    .join("; ");
  if (words === "") expect(errors).toBe("");
  else expect(errors).toContain(words);
  if (words !== "") expect(errors).toStartWith(`metadata.annotations[cni.projectcalico.org/${name}]: Invalid value: `);
});
